#include "known_shapes.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace blockgtq {
namespace {

struct Shape {
  const char *name, *model_type;
  int hidden, intermediate, layers, heads, kv_heads, vocab;
  bool tied;
  double theta;
};

/// As the models' config.json have them; heads of 128.
constexpr Shape kShapes[] = {
    {"qwen2.5-3b", "qwen2", 2048, 11008, 36, 16, 2, 151936, true, 1e6},
    {"qwen2.5-7b", "qwen2", 3584, 18944, 28, 28, 4, 152064, false, 1e6},
    {"qwen3-4b", "qwen3", 2560, 9728, 36, 32, 8, 151936, true, 1e6},
    {"qwen3-8b", "qwen3", 4096, 12288, 36, 32, 8, 151936, false, 1e6},
    {"llama-3.2-3b", "llama", 3072, 8192, 28, 24, 8, 128256, true, 5e5},
    {"llama-3.1-8b", "llama", 4096, 14336, 32, 32, 8, 128256, false, 5e5},
    {"mistral-7b", "mistral", 4096, 14336, 32, 32, 8, 32768, false, 1e6},
};

}  // namespace

std::string known_shapes() {
  std::string names;
  for (const Shape& shape : kShapes) names += (names.empty() ? "" : ", ") + std::string(shape.name);
  return names;
}

Config known_shape(const std::string& name) {
  for (const Shape& s : kShapes) {
    if (name != s.name) continue;
    const Json json = {{"model_type", s.model_type},
                       {"hidden_size", s.hidden},
                       {"intermediate_size", s.intermediate},
                       {"num_hidden_layers", s.layers},
                       {"num_attention_heads", s.heads},
                       {"num_key_value_heads", s.kv_heads},
                       {"head_dim", 128},
                       {"vocab_size", s.vocab},
                       {"max_position_embeddings", 131072},
                       {"rms_norm_eps", 1e-6},
                       {"rope_theta", s.theta},
                       {"hidden_act", "silu"},
                       {"tie_word_embeddings", s.tied},
                       {"torch_dtype", "bfloat16"}};
    return parse_config(json, name);
  }
  throw Error(Exit::usage, fmt::format("--shape: '{}' is none of {}", name, known_shapes()));
}

}  // namespace blockgtq
