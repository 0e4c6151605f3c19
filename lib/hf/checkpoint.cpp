#include "hf/checkpoint.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "hf/config_fields.h"

namespace blockgtq {

namespace {

constexpr size_t kMaxIndexBytes = 64 << 20;
constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

bool present(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

/// "(2048, 128)"
std::string shape_text(const std::vector<int64_t>& shape) {
  std::string out;
  for (int64_t n : shape) out += (out.empty() ? "" : ", ") + std::to_string(n);
  return "(" + out + ")";
}

[[noreturn]] void fail_no_weights(const fs::path& folder) {
  const std::string what = fmt::format("{}: no {} and no {}", folder.string(), kSingle, kIndex);
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string extension = it->path().extension().string();
    if (extension == ".bin" || extension == ".pt" || extension == ".pth")
      throw Error(Exit::input, what + ": pickled weights are not read: safetensors",
                  "convert them: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(OUT)");
  }
  throw Error(Exit::input, what);
}

/// tensor -> shard, as model.safetensors.index.json tells it. A shard is one file name inside the folder: an
/// index is downloaded text, and must not lead anywhere else.
std::map<std::string, std::string> read_index(const fs::path& path) {
  const std::string name = path.string();
  const Json json = read_json(path, kMaxIndexBytes);
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

Checkpoint::Checkpoint(const fs::path& folder) : folder_(folder) {
  std::error_code error;
  if (!fs::is_directory(folder, error)) fail_input("{}: not a folder", folder.string());
  const fs::path config = folder / "config.json";
  if (!present(config)) fail_input("{}: no config.json: not a Hugging Face model folder", folder.string());
  config_ = parse_config(read_json(config, kMaxConfigBytes), config.string());

  const fs::path index = folder / kIndex;
  const bool single = present(folder / kSingle);  // as transformers: one file goes before an index
  if (!single && !present(index)) fail_no_weights(folder);
  const std::map<std::string, std::string> weight_map =
      single ? std::map<std::string, std::string>() : read_index(index);
  std::set<std::string> names;
  for (const auto& [tensor, shard] : weight_map) names.insert(shard);
  if (single) names.insert(kSingle);

  std::map<std::string, std::string> lies_in;  // tensors named by the index: the shard that has it
  for (const std::string& shard : names) {
    const fs::path path = folder / shard;
    if (!present(path))
      fail_input("{}: no such file, and {} names it", path.string(), index.filename().string());
    MappedFile file(path);
    for (Tensor& tensor : read_safetensors(file)) {
      if (!single) {
        const auto wanted = weight_map.find(tensor.name);
        if (wanted == weight_map.end()) continue;  // transformers leaves these out too
        const auto [first, fresh] = lies_in.emplace(tensor.name, shard);
        if (!fresh)
          fail_input("{}: tensor {} lies in two shards: {} and {}", folder.string(), shown(tensor.name),
                     first->second, shard);
        if (wanted->second != shard) continue;
      }
      shard_of_[tensor.name] = shards_.size();
      tensors_.emplace(tensor.name, std::move(tensor));
    }
    shards_.push_back(std::move(file));
  }
  for (const auto& [tensor, shard] : weight_map) {
    if (!tensors_.count(tensor))
      fail_input("{}: tensor {} is not in {}", index.string(), shown(tensor), shown(shard));
  }
}

int64_t Checkpoint::weight_bytes() const {
  int64_t out = 0;
  for (const auto& [name, tensor] : tensors_) out += int64_t(tensor.data.size());
  return out;
}

const Tensor* Checkpoint::find(const std::string& name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? nullptr : &it->second;
}

const Tensor& Checkpoint::get(const std::string& name, const std::vector<int64_t>& shape) const {
  const Tensor* tensor = find(name);
  if (!tensor)
    fail_input("{}: tensor {} is missing: shape {}", folder_.string(), shown(name), shape_text(shape));
  const std::string file = shards_[shard_of_.at(name)].path().string();
  if (tensor->shape != shape)
    fail_input("{}: tensor {}: shape {}, the config says {}", file, shown(name), shape_text(tensor->shape),
               shape_text(shape));
  if (tensor->dtype == DType::other)
    fail_input("{}: tensor {}: dtype {} is not supported: F32, F16, BF16", file, shown(name),
               tensor->dtype_name);
  return *tensor;
}

void Checkpoint::prefetch(const Tensor& tensor) const {
  shards_[shard_of_.at(tensor.name)].prefetch(tensor.data);
}

void Checkpoint::release(const Tensor& tensor) const {
  shards_[shard_of_.at(tensor.name)].release(tensor.data);
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
