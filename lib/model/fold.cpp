#include "model/fold.h"

#include <algorithm>

#include "base/error.h"
#include "model/weights.h"
#include "quant/centred.h"
#include "quant/eigen.h"

namespace blockgtq {

namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using FloatMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

void check_architecture(const Checkpoint& model) {
  const Config& c = model.config();
  const auto refuse = [&](const char* why) {
    fail_input("{}: model_type {} does not fold: {}", model.folder().string(), c.model_type, why);
  };
  if (c.attention == AttentionKind::mla)
    refuse("the keys of latent attention are all heads' rotary part and one latent, not heads of their own");
  if (c.dialect == Dialect::chatglm)
    refuse("query_key_value is one fused tensor; the glm layout of the same model has them apart");
  if (c.dialect == Dialect::phi3) refuse("qkv_proj is one fused tensor");
  if (model.from_gguf() && (c.model_type == "gemma2" || c.model_type == "gpt_oss"))
    refuse("a GGUF file has some of its weights otherwise than a Hugging Face folder");
  if (c.gated_output) refuse("each coordinate of the attention's output has a gate of its own");
  if (c.qk_norm != QkNorm::none)
    refuse("QK-norm follows the projections, and its weights are shared by all heads: no scale per head");
}

void check_map(const Checkpoint& model, const BitMap& map) {
  const Config& c = model.config();
  const AttentionShape& shape = map.shape;
  const auto refuse = [&](const std::string& what) {
    fail_input("{}: the map is not of this model: {}", model.folder().string(), what);
  };
  if (shape.n_layers != c.n_layers || shape.n_heads != c.n_heads || shape.n_kv_heads != c.n_kv_heads ||
      shape.layout.head_dim != c.head_dim || shape.v_dim != c.v_dim)
    refuse(fmt::format("map {} layers, {} / {} heads of {}, model {} layers, {} / {} heads of {}",
                       shape.n_layers, shape.n_heads, shape.n_kv_heads, shape.layout.head_dim, c.n_layers,
                       c.n_heads, c.n_kv_heads, c.head_dim));
  if (shape.layout != c.blocks())
    refuse(fmt::format(
        "pairing: map {} over {}, model {} over {} (a map of --compat reference does not fold)",
        name(shape.layout.pairing), shape.layout.rotary_dim, name(c.rope.pairing), c.rope.rotary_dim));
  if (map.calibration.empty())
    throw Error(Exit::input, "the map holds no key means: it was written by an older version",
                "calibrate (or allocate) writes a new one");
  const auto weights = std::find_if(map.provenance.begin(), map.provenance.end(),
                                    [](const auto& p) { return p.first == "weights"; });
  const std::string fingerprint = model.fingerprint();
  if (weights != map.provenance.end() && weights->second != fingerprint)
    refuse(fmt::format("fingerprint of the weights: map {:.16}, model {:.16}", weights->second, fingerprint));
}

Matrix value_basis(const HeadCalibration& calibration, Eigen::Index dim) {
  return Eigen::Map<const FloatMatrix>(calibration.v_forward.data(), dim, dim).cast<double>();
}

}  // namespace

Fold::Fold(const Checkpoint& model, const BitMap& map) : map_(map) {
  check_architecture(model);
  check_map(model, map);
  values_ = std::all_of(map.calibration.begin(), map.calibration.end(),
                        [](const HeadCalibration& h) { return !h.v_forward.empty(); });
  const auto add = [&](const Linear& linear, Role role, int layer) {
    parts_[linear.weight.name] = {role, layer};
    if (linear.bias && role != Role::output) parts_[linear.bias->name] = {role, layer};
  };
  for (int l = 0; l < map.shape.n_layers; ++l) {
    const LayerWeights weights = layer_weights(model, l);
    add(weights.q, Role::query, l);
    add(weights.k, Role::key, l);
    if (!values_) continue;
    add(weights.v, Role::value, l);
    add(weights.o, Role::output, l);
  }
}

std::vector<float> Fold::folded(const Tensor& tensor) const {
  const Part part = parts_.at(tensor.name);
  const AttentionShape& shape = map_.shape;
  const Eigen::Index rows = tensor.shape[0], cols = tensor.shape.size() > 1 ? tensor.shape[1] : 1;
  std::vector<float> out(size_t(rows * cols));
  tensor.read(0, rows * cols, out.data());
  Eigen::Map<FloatMatrix> w(out.data(), rows, cols);
  const auto calibration = [&](int kv_head) -> const HeadCalibration& {
    return map_.calibration[size_t(part.layer) * shape.n_kv_heads + kv_head];
  };

  if (part.role == Role::query || part.role == Role::key) {
    const int group = part.role == Role::query ? shape.group() : 1, dim = shape.layout.head_dim;
    for (int h = 0; h < shape.n_kv_heads * group; ++h) {
      const std::vector<double> scales = balance_scales(shape.layout, calibration(h / group));
      for (int b = 0; b < shape.layout.n_blocks(); ++b) {
        const double scale = part.role == Role::key ? scales[b] : 1 / scales[b];
        for (const int c : shape.layout.coords(b))
          w.row(h * dim + c) = (w.row(h * dim + c).cast<double>() * scale).cast<float>();
      }
    }
    return out;
  }
  const Eigen::Index dim = shape.v_dim;
  for (int h = 0; h < shape.n_kv_heads; ++h) {
    const Matrix forward = value_basis(calibration(h), dim);
    if (part.role == Role::value) {
      const Matrix head = w.middleRows(h * dim, dim).cast<double>();
      w.middleRows(h * dim, dim) = (forward * head).cast<float>();
      continue;
    }
    // Not the map's own backward matrix: both of its matrices are rounded to float32, so their product is the
    // identity only within the condition number of S.
    const Matrix backward = forward.partialPivLu().inverse();
    for (int g = h * shape.group(); g < (h + 1) * shape.group(); ++g) {
      const Matrix head = w.middleCols(g * dim, dim).cast<double>();
      w.middleCols(g * dim, dim) = (head * backward).cast<float>();
    }
  }
  return out;
}

}  // namespace blockgtq
