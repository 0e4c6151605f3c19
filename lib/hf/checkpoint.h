#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "hf/config.h"
#include "hf/fingerprint.h"
#include "hf/safetensors.h"

namespace blockgtq {

inline constexpr int kMaxShards = 1024;

/// A Hugging Face model folder: config.json and *.safetensors (one, or sharded through
/// model.safetensors.index.json), all mapped.
class Checkpoint {
 public:
  /// Reads config and headers only.
  explicit Checkpoint(const fs::path& folder);

  const fs::path& folder() const { return folder_; }
  const Config& config() const { return config_; }
  int64_t weight_bytes() const;
  size_t n_shards() const { return shards_.size(); }

  const std::map<std::string, Tensor>& tensors() const { return tensors_; }  // by name
  const Tensor* find(const std::string& name) const;                         // null when absent
  /// A tensor of this shape and a float dtype; Exit::input names the file, the tensor, both shapes.
  const Tensor& get(const std::string& name, const std::vector<int64_t>& shape) const;

  /// The file a tensor lies in, for messages.
  const fs::path& file_of(const Tensor& t) const { return shards_[shard_of_.at(t.name)].path(); }

  void prefetch(const Tensor&) const;
  void release(const Tensor&) const;  // its pages leave the resident set

  /// Identifies the weights by every byte of every shard, in name order (hf/fingerprint.h). It is computed by
  /// threads of its own from begin_fingerprint() on; fingerprint() waits for them.
  void begin_fingerprint() const;
  std::string fingerprint() const;

 private:
  fs::path folder_;
  Config config_;
  std::vector<MappedFile> shards_;
  std::map<std::string, Tensor> tensors_;
  std::map<std::string, size_t> shard_of_;
  mutable std::shared_ptr<Fingerprint> fingerprint_;
};

/// DIR as it is, or org/name looked up in the local Hugging Face cache (HF_HUB_CACHE, HF_HOME,
/// ~/.cache/huggingface/hub; the snapshot refs/main points to). Nothing is downloaded: the error's hint is
/// the command that would.
fs::path resolve_model(const std::string& dir_or_name);

}  // namespace blockgtq
