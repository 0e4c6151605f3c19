// Files of weights: every tensor that is handed out lies inside the file and can be read.
#include <algorithm>

#include "base/error.h"
#include "hf/checkpoint.h"
#include "hf/gguf_model.h"
#include "hf/gguf_tokenizer.h"
#include "hf/safetensors.h"
#include "hf/tokenizer.h"
#include "reader.h"

namespace blockgtq {
namespace {

void read_ends(const Tensor& tensor) {
  const int64_t n = tensor.dtype == DType::other ? 0 : tensor.elements();
  if (n == 0 || tensor.shape.empty() || tensor.grid) return;
  const int64_t block = is_quantized(tensor.dtype) ? block_size(tensor.dtype).elements : 1;
  float numbers[256];
  check(block <= 256, "a block of more than 256 numbers");
  tensor.read(0, block, numbers);
  tensor.read(n - block, block, numbers);
}

}  // namespace

void fuzz_safetensors(std::string_view input) {
  const MappedFile file(scratch_file("a.safetensors", input));
  for (const Tensor& tensor : read_safetensors(file)) read_ends(tensor);
}

/// The container, the model that it claims to hold, and its tokenizer.
void fuzz_gguf(std::string_view input) {
  const fs::path path = scratch_file("a.gguf", input);
  const MappedFile file(path);
  const GgufFile gguf = read_gguf(file);
  for (const Tensor& tensor : gguf.tensors) read_ends(tensor);
  if (gguf.metadata.has("tokenizer.ggml.model")) {
    const Tokenizer tokenizer(gguf_tokenizer(gguf.metadata), path.string());
    static_cast<void>(tokenizer.decode(tokenizer.encode("Hello  World 12.5\n")));
  }
  const Checkpoint checkpoint(path);
  for (const auto& [name, tensor] : checkpoint.tensors()) read_ends(tensor);
}

/// model.safetensors.index.json, beside one shard with one tensor, x.
void fuzz_index(std::string_view input) {
  static const std::string config =
      R"({"model_type": "llama", "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
          "num_attention_heads": 2, "vocab_size": 8, "max_position_embeddings": 8, "rope_theta": 1e4})";
  scratch_file("config.json", config);
  const std::string header = R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  scratch_file("a.safetensors", char(header.size()) + std::string(7, '\0') + header + "1234");
  scratch_file("model.safetensors.index.json", input);
  const Checkpoint checkpoint(scratch_folder());
  check(checkpoint.tensors().size() == 1, "one tensor, and another number is found");
}

}  // namespace blockgtq
