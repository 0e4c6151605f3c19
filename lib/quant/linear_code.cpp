#include "quant/linear_code.h"

#include <cmath>

#include "quant/trellis.h"

namespace blockgtq {

LinearCode with_trellis(LinearCode code) {
  int d = 0;  // of the stream, which has all groups with few enough bits
  for (const LinearCode::Group& group : code.groups) d += group.bits <= kMaxTrellisBits ? group.d : 0;
  for (LinearCode::Group& group : code.groups) {
    if (group.bits > kMaxTrellisBits || d < kLeastTrellisDim) continue;
    const TrellisTable& table = trellis_table(group.bits);
    const double scale = 1 / std::sqrt(double(code.one_norm ? code.n_coords() : group.d));
    group.trellis = true;
    group.centroids.clear();
    for (const float t : table) group.centroids.push_back(float(t * scale));
  }
  if (code.fallback) code.fallback = std::make_shared<LinearCode>(with_trellis(*code.fallback));
  return code;
}

LinearCode with_fallback(LinearCode code, LinearCode fallback, std::vector<float> weight) {
  code.fallback = std::make_shared<LinearCode>(std::move(fallback));
  code.weight = std::move(weight);
  return code;
}

}  // namespace blockgtq
