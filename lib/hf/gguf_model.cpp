#include "hf/gguf_model.h"

#include "hf/checkpoint.h"
#include "hf/config_fields.h"
#include "hf/gguf_config.h"
#include "hf/gguf_rope.h"
#include "hf/model_files.h"

namespace blockgtq {

namespace {

constexpr const char* kNumber = "split.no";
constexpr const char* kCount = "split.count";

std::string part_ending(int64_t part, int64_t n) {
  return fmt::format("-{:05}-of-{:05}.gguf", part + 1, n);
}

/// The paths of all parts; only the file itself where it is not split.
std::vector<fs::path> part_paths(const fs::path& first, const GgufMetadata& metadata) {
  const int64_t n = metadata.integer_or(kCount, 1, 0, kMaxShards);
  if (n <= 1) return {first};
  const int64_t part = metadata.integer(kNumber, 0, n - 1);
  const std::string name = first.filename().string(), ending = part_ending(part, n);
  if (!name.ends_with(ending))
    fail_input(
        "{}: part {} of {} of a split file: its name does not end in {}, so that the others are not found",
        first.string(), part + 1, n, ending);
  const std::string stem = name.substr(0, name.size() - ending.size());
  if (part != 0)
    throw Error(Exit::input,
                fmt::format("{}: part {} of {} of a split file: the first is what to name", first.string(),
                            part + 1, n),
                (first.parent_path() / (stem + part_ending(0, n))).string());
  std::vector<fs::path> out;
  for (int64_t i = 0; i < n; ++i) out.push_back(first.parent_path() / (stem + part_ending(i, n)));
  return out;
}

void check_part(const GgufFile& part, size_t i, size_t n, const std::string& file) {
  if (n == 1) return;
  const int64_t number = part.metadata.integer(kNumber, 0, INT32_MAX);
  const int64_t count = part.metadata.integer(kCount, 0, INT32_MAX);
  if (number != int64_t(i) || count != int64_t(n))
    fail_input("{}: says that it is part {} of {}: part {} of {}", file, number + 1, count, i + 1, n);
}

/// Splits a tensor that holds all experts of a layer, one after the other.
void take_experts(const Tensor& fused, const std::string& pattern, size_t part, const std::string& file,
                  GgufModel& out) {
  const size_t dimensions = fused.name.ends_with(".bias") ? 2 : 3;
  if (fused.shape.size() != dimensions)
    fail_input("{}: tensor {}: {} dimensions: {}", file, shown(fused.name), fused.shape.size(), dimensions);
  const int64_t n = fused.shape[0];
  if (n > kMaxExperts)
    fail_input("{}: tensor {}: {} experts: {} at most", file, shown(fused.name), n, kMaxExperts);
  for (int64_t e = 0; e < n; ++e) {
    Tensor expert = fused;
    expert.name = pattern;
    expert.name.replace(pattern.find('%'), 1, std::to_string(e));
    expert.shape.erase(expert.shape.begin());
    const size_t bytes = fused.data.size() / size_t(n);
    expert.data = fused.data.subspan(size_t(e) * bytes, bytes);
    out.part_of[expert.name] = part;
    out.tensors[expert.name] = expert;
  }
  if (out.tensors.size() > kMaxTensors)
    fail_input("{}: tensor {}: its experts make more than {} tensors", file, shown(fused.name), kMaxTensors);
}

void take_tensor(Tensor tensor, size_t part, int64_t head_dim, GgufModel& out) {
  const std::string file = out.parts[part].path().string();
  const std::string name = tensor.name;
  if (is_rope_tensor(name)) return;  // it belongs to the config
  const std::optional<std::string> hf_name = hf_tensor_name(*out.architecture, name);
  if (!hf_name)
    fail_input("{}: tensor {}: models of {} have none of this name", file, shown(name),
               out.architecture->name);
  if (out.tensors.count(*hf_name))
    fail_input("{}: tensor {}: another one of the file has its place: {}", file, shown(name), *hf_name);
  if (tensor.shape.size() == 1 && is_quantized(tensor.dtype))
    fail_input("{}: tensor {}: a vector of {} is not supported: F32, F16, BF16", file, shown(name),
               tensor.dtype_name);
  if (hf_name->find('%') != std::string::npos) return take_experts(tensor, *hf_name, part, file, out);
  const bool query_or_key = name.find(".attn_q.") != name.npos || name.find(".attn_k.") != name.npos;
  // Where the rows are not whole heads, asking for the tensor fails because of its shape.
  if (out.architecture->paired_rows && query_or_key && tensor.shape[0] % head_dim == 0)
    tensor.paired_rows = head_dim;
  // The converter drops the dimension of a matrix of one row (conversion/base.py, prepare_tensors).
  if (hf_name->ends_with("shared_expert_gate.weight") && tensor.shape.size() == 1)
    tensor.shape.insert(tensor.shape.begin(), 1);
  tensor.name = *hf_name;
  out.part_of[*hf_name] = part;
  out.tensors[*hf_name] = std::move(tensor);
}

}  // namespace

GgufModel open_gguf(const fs::path& path) {
  GgufModel out;
  out.parts.emplace_back(path);
  std::vector<GgufFile> files = {read_gguf(out.parts[0])};
  const std::vector<fs::path> paths = part_paths(path, files[0].metadata);
  uint64_t header_bytes = files[0].data_offset;
  for (size_t i = 1; i < paths.size(); ++i) {
    std::error_code error;
    if (!fs::exists(paths[i], error))
      fail_input("{}: no such file: part {} of {} of a split file", paths[i].string(), i + 1, paths.size());
    out.parts.emplace_back(paths[i]);
    files.push_back(read_gguf(out.parts[i]));
    header_bytes += files[i].data_offset;
    if (header_bytes > kMaxGgufHeader)
      fail_input("{}: metadata and tensor descriptions of {} parts have {} bytes: {} at most",
                 paths[i].string(), i + 1, header_bytes, kMaxGgufHeader);
  }
  std::map<std::string, Tensor> stored;
  for (size_t i = 0; i < files.size(); ++i) {
    check_part(files[i], i, files.size(), paths[i].string());
    for (const Tensor& tensor : files[i].tensors) {
      if (!stored.emplace(tensor.name, tensor).second)
        fail_input("{}: tensor {}: in an earlier part too", paths[i].string(), shown(tensor.name));
    }
  }
  const GgufMetadata& metadata = files[0].metadata;
  const std::string name = metadata.text("general.architecture", "");
  const bool has_experts = metadata.integer_or(name + ".expert_count", 0, 0, kMaxExperts) > 0;
  out.architecture = &find_gguf_architecture(name, has_experts, path.string());
  out.config = gguf_config(*out.architecture, metadata, stored);
  const int64_t head_dim = out.config["head_dim"].get<int64_t>();
  for (size_t i = 0; i < files.size(); ++i)
    for (Tensor& tensor : files[i].tensors) take_tensor(std::move(tensor), i, head_dim, out);
  return out;
}

}  // namespace blockgtq
