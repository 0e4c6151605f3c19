#pragma once
#include "eval/bootstrap.h"

namespace blockgtq {

/// Wilson's 95 % interval of a share in [0, 1] that was found over n independent draws. It has a width where
/// all draws agree, as a bootstrap's has not. Draws of scores between 0 and 1 vary less than those of 0 and
/// 1, for which it is made: it is on the safe side. NaN for n <= 0.
Bootstrap::Interval wilson(double share, double n);

}  // namespace blockgtq
