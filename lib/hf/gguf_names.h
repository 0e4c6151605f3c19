#pragma once
#include <optional>
#include <span>
#include <string>

namespace blockgtq {

/// The names of one tensor, without the ending ".weight" or ".bias". "%" stands for a number: of the layer,
/// then of the expert.
struct GgufName {
  const char *gguf, *hf;
};

/// What general.architecture of a GGUF file means for us.
struct GgufArchitecture {
  const char* name;
  const char* model_type;     // of the Hugging Face model that it was converted from
  const char* class_name;     // in its config.json
  bool paired_rows = false;   // rows of q and k are stored as Tensor::paired_rows says
  bool with_experts = false;  // where two architectures share a name: that of files with experts
  bool whole_norms = false;   // norms include the 1 that the Hugging Face model adds to them
  std::span<const GgufName> own_names = {};  // take precedence over those that most architectures share
};

/// The architecture of this name. Exit::input lists the supported ones; `file` begins the message.
const GgufArchitecture& find_gguf_architecture(const std::string& name, bool has_experts,
                                               const std::string& file);

/// A tensor's name in the Hugging Face model: "blk.3.attn_q.weight" ->
/// "model.layers.3.self_attn.q_proj.weight". Fused experts have "%" in place of the expert's number. None for
/// a name that this kind of model does not have.
std::optional<std::string> hf_tensor_name(const GgufArchitecture&, const std::string& gguf_name);

/// The inverse, for messages ("blk.3.ffn_up_exps.weight, expert 5"); the name itself where there is none.
std::string gguf_tensor_name(const GgufArchitecture&, const std::string& hf_name);

}  // namespace blockgtq
