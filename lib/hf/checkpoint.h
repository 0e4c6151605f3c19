#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "hf/config.h"
#include "hf/fingerprint.h"
#include "hf/gguf_names.h"
#include "hf/safetensors.h"

namespace blockgtq {

inline constexpr int kMaxShards = 1024;

/// A model's files, mapped: a Hugging Face folder (config.json and *.safetensors, a single file or shards
/// with model.safetensors.index.json) or a GGUF file. Tensors have their Hugging Face names.
class Checkpoint {
 public:
  /// Reads only config and headers. Where the config ties the embedding and the checkpoint also has an
  /// lm_head, it compares the two tensors, up to the first difference. If they differ, the model is not tied,
  /// and a remark says so. Exit::input where a file is missing, damaged or not supported.
  explicit Checkpoint(const fs::path& folder_or_gguf);

  const fs::path& folder() const { return folder_; }  // or the GGUF file
  bool from_gguf() const { return gguf_ != nullptr; }
  const Config& config() const { return config_; }
  int64_t weight_bytes() const;
  size_t n_shards() const { return shards_.size(); }

  const std::map<std::string, Tensor>& tensors() const { return tensors_; }  // by name
  const Tensor* find(const std::string& name) const;                         // null when absent
  /// A tensor of this shape and of a float dtype. Otherwise Exit::input names the file, the tensor and both
  /// shapes.
  const Tensor& get(const std::string& name, const std::vector<int64_t>& shape) const;

  /// The name under which the file has a tensor, for messages.
  std::string label(const std::string& name) const;
  /// The file a tensor lies in, for messages.
  const fs::path& file_of(const Tensor& t) const { return shards_[shard_of_.at(t.name)].path(); }

  /// Hints for the kernel, as in MappedFile: the tensor's pages are needed soon, or not any more.
  void prefetch(const Tensor&) const;
  void release(const Tensor&) const;  // its pages leave the resident set

  /// Identifies the weights by every byte of every shard, in name order (hf/fingerprint.h). Threads compute
  /// it from begin_fingerprint() on; fingerprint() waits for them.
  void begin_fingerprint() const;
  std::string fingerprint() const;

 private:
  void open_folder();
  void open_gguf_file();
  void settle_tied();
  bool same_values(const Tensor&, const Tensor&) const;

  fs::path folder_;
  Config config_;
  const GgufArchitecture* gguf_ = nullptr;  // null: a folder
  std::vector<MappedFile> shards_;
  std::map<std::string, Tensor> tensors_;
  std::map<std::string, size_t> shard_of_;
  mutable std::shared_ptr<Fingerprint> fingerprint_;
};

/// Finds a model: DIR or FILE.gguf as it is, or org/name or org/name@revision in the local Hugging Face cache
/// (HF_HUB_CACHE, HF_HOME, ~/.cache/huggingface/hub, then TRANSFORMERS_CACHE; without a revision the snapshot
/// that refs/main points to). Nothing is downloaded. Exit::input where it is not found; the hint is the
/// command that would download it.
fs::path resolve_model(const std::string& dir_or_name);

/// For a snapshot in a Hugging Face cache: the command that completes it, and a revision that has weights if
/// there is one. Empty for any other folder.
std::string download_hint(const fs::path& folder);

/// Whether the folder holds safetensors or their index, whatever their content, even a broken link.
bool has_weights(const fs::path& folder);
/// Whether the folder holds a file of weights pickled by torch.
bool has_pickled_weights(const fs::path& folder);

}  // namespace blockgtq
