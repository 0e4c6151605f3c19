// Tensors of a checkpoint for which its config's model has no place. What transformers does with them was
// tried
// with version 5.24; tests/model/make_other_tensors.py says how.
#include "model/other_tensors.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <set>

#include "hf/config_fields.h"
#include "hf/config_quantization.h"
#include "model/weights.h"

namespace blockgtq {

namespace {

constexpr const char* kConvert = "convert it: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(OUT)";

/// The prefix that transformers adds to a name without it, and removes where it occurs twice.
std::string base_prefix(const Config& config) {
  return config.dialect == Dialect::chatglm ? "transformer." : config.prefix;
}

/// The prefixes "model.layers.3.mlp.experts." of layers with experts. transformers stacks all that has them.
std::vector<std::string> expert_prefixes(const Config& config) {
  std::vector<std::string> out;
  for (int layer = 0; layer < config.n_layers; ++layer) {
    if (!config.layer_is_moe[size_t(layer)]) continue;
    for (const char* block : {"mlp.experts.", "block_sparse_moe.experts."})
      out.push_back(layer_prefix(config, layer) + block);
  }
  return out;
}

/// What old checkpoints hold although every loader computes it, and a head that equals the embedding.
bool is_harmless(const std::string& name, const Config& config) {
  return name.ends_with("rotary_emb.inv_freq") || name.ends_with("rotary_pos_emb.inv_freq") ||
         (config.tied && name == head_name(config));
}

/// Whether it belongs to another tower of a vision model, of which this is the text tower.
bool is_beside(const std::string& name, const Config& config) {
  const bool tower = config.prefix.find("language_model.") != std::string::npos;
  return tower && !name.starts_with(config.prefix);
}

}  // namespace

void refuse_other_names(const Checkpoint& model) {
  const Config& config = model.config();
  const std::string wanted = embedding_name(config);
  const std::string last = wanted.substr(wanted.rfind('.', wanted.rfind('.') - 1) + 1);
  for (const auto& [name, tensor] : model.tensors()) {
    if (model.find(wanted) || !("." + name).ends_with("." + last)) continue;
    throw Error(Exit::input,
                fmt::format("{}: tensors lie under other names: {} is not supported: {}",
                            model.folder().string(), shown(name), shown(wanted)),
                kConvert);
  }
  for (const auto& [name, tensor] : model.tensors()) {
    // GPTQ, AWQ and compressed-tensors use these names, even where the config says nothing of them.
    if (!name.ends_with(".qweight") && !name.ends_with(".weight_packed")) continue;
    throw Error(Exit::input,
                fmt::format("{}: weights packed in integers are not supported: {}: F32, F16, BF16, F8_E4M3",
                            model.folder().string(), shown(name)),
                kUnquantizedHint);
  }
}

std::string unused_tensors(const Checkpoint& model) {
  constexpr size_t kNamed = 3;
  const Config& config = model.config();
  const std::string base = base_prefix(config);
  const std::vector<std::string> experts = expert_prefixes(config);
  std::set<std::string> used;
  const OuterWeights outer = outer_weights(model);
  for (const Tensor* t : {&outer.embedding, &outer.final_norm.weight, &outer.lm_head.weight})
    used.insert(t->name);
  if (outer.final_norm.bias) used.insert(outer.final_norm.bias->name);
  for (int layer = 0; layer < config.n_layers; ++layer) {
    const LayerWeights weights = layer_weights(model, layer);
    for (const Tensor* t : weights.all()) used.insert(t->name);
  }

  std::string named;
  size_t n = 0;
  for (const auto& [name, tensor] : model.tensors()) {
    if (used.count(name) || is_harmless(name, config) || is_beside(name, config)) continue;
    const auto fail = [&model, &name = name, &tensor = tensor](const std::string& why) {
      fail_input("{}: tensor {}: {}", model.file_of(tensor).string(), shown(model.label(name)), why);
    };
    // llama.cpp would use the tensor, or refuse the file.
    if (model.from_gguf()) fail(fmt::format("has no place in a {} of this config", config.model_type));
    if (used.count(base + name)) fail(fmt::format("is there as {} too: one of them", shown(base + name)));
    if (name.starts_with(base) && used.count(name.substr(base.size())))
      fail(fmt::format("is there as {} too: one of them", shown(name.substr(base.size()))));
    for (const std::string& prefix : experts) {
      if (name.starts_with(prefix))
        fail(fmt::format("is not part of the {} experts of the config", config.moe.n_experts));
    }
    if (++n <= kNamed) named += (n == 1 ? "" : ", ") + shown(name);
  }
  if (n == 0) return "";
  return fmt::format("{}: {} in a {} of this config and {} ignored, as transformers does: {}{}",
                     model.folder().string(),
                     n == 1 ? "1 tensor has no place" : fmt::format("{} tensors have no place", n),
                     config.model_type, n == 1 ? "is" : "are", named, n > kNamed ? ", ..." : "");
}

}  // namespace blockgtq
