#pragma once
#include "eval/bootstrap.h"

namespace blockgtq {

/// Wilson's 95 % interval of a share in [0, 1], found over n independent draws. Unlike a bootstrap's it has a
/// width where all draws agree. It is made for draws of 0 or 1. Scores between 0 and 1 vary less, so for them
/// it is on the safe side. NaN for n <= 0.
Bootstrap::Interval wilson(double share, double n);

}  // namespace blockgtq
