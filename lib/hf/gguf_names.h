#pragma once
#include <optional>
#include <span>
#include <string>

namespace blockgtq {

/// Names of one tensor, without ".weight" and ".bias" where it has one of these endings; "%" stands for a
/// number: of the layer, then of the expert.
struct GgufName {
  const char *gguf, *hf;
};

/// What a GGUF file's general.architecture means here.
struct GgufArchitecture {
  const char* name;
  const char* model_type;                    // of the Hugging Face model that it was converted from
  const char* class_name;                    // in its config.json
  bool paired_rows = false;                  // q and k lie as Tensor::paired_rows says
  bool with_experts = false;                 // of two architectures of one name: that of files with experts
  bool whole_norms = false;                  // norms have the 1 that the Hugging Face model adds to them
  std::span<const GgufName> own_names = {};  // before those that most architectures share
};

/// Exit::input names the supported ones, with `file` before it.
const GgufArchitecture& find_gguf_architecture(const std::string& name, bool has_experts,
                                               const std::string& file);

/// A tensor's name in the Hugging Face model: "blk.3.attn_q.weight" ->
/// "model.layers.3.self_attn.q_proj.weight". Fused experts have "%" where the number of the expert goes.
/// Nothing for a name that is not of this kind of model.
std::optional<std::string> hf_tensor_name(const GgufArchitecture&, const std::string& gguf_name);

/// The way back, for messages ("blk.3.ffn_up_exps.weight, expert 5"); the name itself where there is none.
std::string gguf_tensor_name(const GgufArchitecture&, const std::string& hf_name);

}  // namespace blockgtq
