#include "hf/checkpoint.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "base/sha256.h"
#include "hf/config_fields.h"

namespace blockgtq {

namespace {

constexpr size_t kMaxIndexBytes = 64 << 20;
constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

/// What stands before the decoder's tensors: a model alone, the text tower of a vision model in its newer and
/// older folders, a decoder saved without its head.
constexpr const char* kPrefixes[] = {"model.", "model.language_model.", "language_model.model.",
                                     "language_model.", ""};

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

/// An open file, read at offsets: what is read here stays out of the mapping's resident set.
class ReadAt {
 public:
  explicit ReadAt(const fs::path& path) : path_(path), fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (fd_ < 0) fail_input("{}: cannot be opened: {}", path.string(), std::strerror(errno));
  }
  ReadAt(const ReadAt&) = delete;
  ReadAt& operator=(const ReadAt&) = delete;
  ~ReadAt() { ::close(fd_); }

  void hash(uint64_t first, uint64_t n, Sha256& sha) {
    while (n > 0) {
      const ssize_t got = ::pread(fd_, buffer_.data(), std::min<uint64_t>(n, buffer_.size()), off_t(first));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) fail_input("{}: cannot be read: {}", path_.string(), std::strerror(errno));
      if (got == 0) fail_input("{}: became shorter while it was read", path_.string());
      sha.update(std::span<const std::byte>(buffer_.data(), size_t(got)));
      first += uint64_t(got);
      n -= uint64_t(got);
    }
  }

 private:
  fs::path path_;
  int fd_;
  std::vector<std::byte> buffer_ = std::vector<std::byte>(size_t(1) << 18);
};

void hash_shard(const MappedFile& shard, Sha256& sha) {
  constexpr uint64_t kWhole = 256 << 10, kBlock = 4 << 10, kBlocks = 64;
  const uint64_t size = shard.bytes().size();
  std::array<std::byte, 8> length{};
  for (size_t i = 0; i < length.size(); ++i) length[i] = std::byte(size >> (8 * i) & 0xff);
  sha.update(length);
  ReadAt file(shard.path());
  if (size <= kWhole) {
    file.hash(0, size, sha);
    return;
  }
  uint64_t header = 0;
  std::memcpy(&header, shard.bytes().data(), sizeof header);  // checked when the shard was read
  file.hash(0, 8 + header, sha);
  for (uint64_t i = 0; i < kBlocks; ++i) file.hash(i * (size - kBlock) / (kBlocks - 1), kBlock, sha);
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
  for (const char* prefix : kPrefixes) {
    if (!tensors_.count(std::string(prefix) + "embed_tokens.weight")) continue;
    config_.prefix = prefix;
    break;
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

std::string Checkpoint::fingerprint() const {
  Sha256 sha;
  for (const MappedFile& shard : shards_) hash_shard(shard, sha);
  return sha.hex();
}

}  // namespace blockgtq
