#include "hf/model_files.h"

#include "hf/config.h"
#include "hf/gguf_model.h"

namespace blockgtq {

std::string config_text(const fs::path& model) {
  if (is_gguf(model)) return dump_json(open_gguf(model).config);
  return read_text(model / "config.json", kMaxConfigBytes);
}

}  // namespace blockgtq
