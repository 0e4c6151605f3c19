#include "hf/checkpoint.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "hf/config_fields.h"
#include "hf/config_quantization.h"
#include "hf/gguf_model.h"
#include "hf/model_files.h"
#include "hf/quantized_weights.h"
#include "hf/scale_grid.h"

namespace blockgtq {

namespace {

constexpr size_t kMaxIndexBytes = 64 << 20;
constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

/// Prefixes of the decoder's tensors: of a model alone, of the text tower of a vision model in newer and in
/// older folders, and of a decoder that was saved without its head.
constexpr const char* kPrefixes[] = {"model.", "model.language_model.", "language_model.model.",
                                     "language_model.", ""};

/// Whether the path exists. Exit::input for a broken link: a download that was interrupted, or cleaned up.
bool present(const fs::path& path) {
  std::error_code error;
  if (fs::exists(path, error)) return true;
  if (fs::is_symlink(fs::symlink_status(path, error)))
    throw Error(Exit::input,
                fmt::format("{}: a link to a file that is not there: {}", path.string(),
                            shown(fs::read_symlink(path, error).string())),
                download_hint(path.parent_path()));
  return false;
}

[[noreturn]] void fail_no_weights(const fs::path& folder) {
  const std::string what = fmt::format("{}: no {} and no {}", folder.string(), kSingle, kIndex);
  if (has_pickled_weights(folder))
    throw Error(Exit::input, what + ": pickled weights are not read: safetensors",
                "convert them: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(OUT)");
  throw Error(Exit::input, what, download_hint(folder));
}

/// tensor -> shard, from model.safetensors.index.json. A shard must be one file name inside the folder,
/// because an index is downloaded text and must not lead anywhere else.
std::map<std::string, std::string> read_index(const fs::path& path) {
  const std::string name = path.string();
  const Json json = parse_json(read_text(path, kMaxIndexBytes), name, kMaxHeaderValues);
  const ConfigFields index(json, name);
  const Json* map = index.find("weight_map");
  if (!map) index.fail("weight_map", "missing");
  if (!map->is_object() || map->empty())
    index.fail("weight_map", "expected names of tensors with their files");
  std::map<std::string, std::string> out;
  std::set<std::string> shards;
  for (const auto& [tensor, value] : map->items()) {
    if (!value.is_string())
      fail_input("{}: weight_map: {}: expected a file name, found {}", name, shown(tensor), shown(value));
    const std::string& shard = value.get_ref<const std::string&>();
    const bool plain = !shard.empty() && shard != "." && shard != ".." &&
                       shard.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
    if (!plain)
      fail_input("{}: weight_map: {}: {} is not a file name inside the folder", name, shown(tensor),
                 shown(value));
    shards.insert(shard);
    if (shards.size() > size_t(kMaxShards))
      fail_input("{}: weight_map: over {} shards: at most {}", name, kMaxShards, kMaxShards);
    out[tensor] = shard;
  }
  return out;
}

}  // namespace

bool has_weights(const fs::path& folder) {
  return fs::exists(fs::symlink_status(folder / kSingle)) || fs::exists(fs::symlink_status(folder / kIndex));
}

bool has_pickled_weights(const fs::path& folder) {
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string extension = it->path().extension().string();
    if (extension == ".bin" || extension == ".pt" || extension == ".pth") return true;
  }
  return false;
}

Checkpoint::Checkpoint(const fs::path& folder_or_gguf) : folder_(folder_or_gguf) {
  if (is_gguf(folder_)) {
    open_gguf_file();
  } else {
    open_folder();
  }
}

void Checkpoint::open_gguf_file() {
  GgufModel model = open_gguf(folder_);
  config_ = parse_config(model.config, folder_.string());
  gguf_ = model.architecture;
  if (gguf_->whole_norms) config_.norm_offset = 0;
  shards_ = std::move(model.parts);
  tensors_ = std::move(model.tensors);
  shard_of_ = std::move(model.part_of);
}

void Checkpoint::open_folder() {
  const fs::path& folder = folder_;
  std::error_code error;
  if (!fs::is_directory(folder, error)) fail_input("{}: not a folder", folder.string());
  const fs::path config = folder / "config.json";
  if (!present(config))
    throw Error(Exit::input,
                fmt::format("{}: no config.json: not a Hugging Face model folder", folder.string()),
                download_hint(folder));
  config_ = parse_config(read_json(config, kMaxConfigBytes), config.string());

  const fs::path index = folder / kIndex;
  const bool single =
      present(folder / kSingle);  // as transformers: a single file takes precedence over an index
  if (!single && !present(index)) fail_no_weights(folder);
  const std::map<std::string, std::string> weight_map =
      single ? std::map<std::string, std::string>() : read_index(index);
  std::set<std::string> names;
  for (const auto& [tensor, shard] : weight_map) names.insert(shard);
  if (single) names.insert(kSingle);

  for (const std::string& shard : names) {
    const fs::path path = folder / shard;
    if (!present(path))
      throw Error(Exit::input,
                  fmt::format("{}: no such file, and {} names it", path.string(), index.filename().string()),
                  download_hint(folder));
    MappedFile file(path);
    for (Tensor& tensor : read_safetensors(file)) {
      // As transformers, all that a shard holds counts, whether the index names it or not. There the order of
      // the files decides which of two tensors wins; here two are an error.
      const auto [at, fresh] = shard_of_.emplace(tensor.name, shards_.size());
      if (!fresh)
        fail_input("{}: tensor {} lies in two shards: {} and {}", folder.string(), shown(tensor.name),
                   shards_[at->second].path().filename().string(), shard);
      tensors_.emplace(tensor.name, std::move(tensor));
    }
    if (tensors_.size() > kMaxTensors)
      fail_input("{}: {} tensors up to {}: {} at most", folder.string(), tensors_.size(), shard, kMaxTensors);
    shards_.push_back(std::move(file));
  }
  for (const auto& [tensor, shard] : weight_map) {
    const auto at = shard_of_.find(tensor);
    if (at == shard_of_.end() || shards_[at->second].path().filename() != shard)
      fail_input("{}: tensor {} is not in {}", index.string(), shown(tensor), shown(shard));
  }
  for (const char* prefix : kPrefixes) {
    if (!tensors_.count(std::string(prefix) + "embed_tokens.weight")) continue;
    config_.prefix = prefix;
    break;
  }
  attach_scales(config_.quantized, {shards_, tensors_, shard_of_});
  settle_tied();
}

/// Whether two tensors are equal as numbers, element by element. What was read leaves the resident set.
bool Checkpoint::same_values(const Tensor& a, const Tensor& b) const {
  constexpr int64_t kBlock = 1 << 16;  // elements, or one row
  if (a.shape != b.shape || a.shape.size() != 2 || a.elements() == 0) return false;
  if (a.dtype == DType::other || b.dtype == DType::other) return false;
  const int64_t rows = a.shape[0], cols = a.shape[1], step = std::max<int64_t>(1, kBlock / cols);
  std::vector<float> left(size_t(step * cols)), right(size_t(step * cols));
  for (int64_t row = 0; row < rows; row += step) {
    const int64_t n = std::min(step, rows - row);
    a.read(row * cols, n * cols, left.data());
    b.read(row * cols, n * cols, right.data());
    if (!std::equal(left.begin(), left.begin() + n * cols, right.begin())) return false;
    release(a.rows(row, n));
    release(b.rows(row, n));
  }
  return true;
}

// As transformers: a head in the checkpoint counts, whatever the config says.
void Checkpoint::settle_tied() {
  const std::string head_is = head_name(config_), embedding_is = embedding_name(config_);
  const Tensor *head = find(head_is), *embedding = find(embedding_is);
  if (!config_.tied || !head || !embedding || same_values(*head, *embedding)) return;
  config_.tied = false;
  config_.remarks.push_back(
      fmt::format("{}: tie_word_embeddings is true, but {} differs from {}: it is used, as transformers does",
                  (folder_ / "config.json").string(), head_is, embedding_is));
}

int64_t Checkpoint::weight_bytes() const {
  int64_t out = 0;
  for (const auto& [name, tensor] : tensors_) out += tensor.stored_bytes();
  return out;
}

const Tensor* Checkpoint::find(const std::string& name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? nullptr : &it->second;
}

const Tensor& Checkpoint::get(const std::string& name, const std::vector<int64_t>& shape) const {
  const Tensor* tensor = find(name);
  if (!tensor)
    fail_input("{}: tensor {} is missing: shape {}", folder_.string(), shown(label(name)), shape_text(shape));
  const std::string file = shards_[shard_of_.at(name)].path().string();
  if (tensor->shape != shape)
    fail_input("{}: tensor {}: shape {}, the config says {}", file, shown(label(name)),
               shape_text(tensor->shape), shape_text(shape));
  if (tensor->dtype == DType::other)
    throw Error(Exit::input,
                fmt::format("{}: tensor {}: dtype {} is not supported: {}", file, shown(label(name)),
                            tensor->dtype_name, gguf_ ? supported_types() : "F32, F16, BF16"),
                gguf_ ? "" : kUnquantizedHint);
  return *tensor;
}

std::string Checkpoint::label(const std::string& name) const {
  return gguf_ ? gguf_tensor_name(*gguf_, name) : name;
}

void Checkpoint::prefetch(const Tensor& tensor) const {
  shards_[shard_of_.at(tensor.name)].prefetch(tensor.data);
  if (tensor.grid) shards_[shard_of_.at(tensor.grid->scales.name)].prefetch(scale_extent(tensor));
}

void Checkpoint::release(const Tensor& tensor) const {
  shards_[shard_of_.at(tensor.name)].release(tensor.data);
  if (tensor.grid) shards_[shard_of_.at(tensor.grid->scales.name)].release(scale_extent(tensor));
}

void Checkpoint::begin_fingerprint() const {
  if (fingerprint_) return;
  std::vector<fs::path> files;
  for (const MappedFile& shard : shards_) files.push_back(shard.path());
  fingerprint_ = shared_fingerprint(files);
}

std::string Checkpoint::fingerprint() const {
  begin_fingerprint();
  return fingerprint_->hex();
}

}  // namespace blockgtq
