// Writes a model's folder again, with some of its weights folded.
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/stop.h"
#include "hf/gguf_tokenizer.h"
#include "hf/model_files.h"
#include "hf/safetensors_writer.h"
#include "model/fold.h"

namespace blockgtq {

namespace {

constexpr const char* kWeights = "model.safetensors";
constexpr const char* kCopied[] = {"tokenizer.json",
                                   "tokenizer_config.json",
                                   "tokenizer.model",
                                   "special_tokens_map.json",
                                   "added_tokens.json",
                                   "vocab.json",
                                   "merges.txt",
                                   "chat_template.jinja",
                                   "generation_config.json"};

/// A folder that is removed again if it was made here, unless keep() is called.
class NewFolder {
 public:
  NewFolder(const fs::path& path, bool force) : path_(path) {
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (fs::exists(status)) {
      if (!fs::is_directory(status)) fail_output("{}: cannot write: it is not a folder", path.string());
      if (!force)
        throw Error(Exit::output, fmt::format("{}: folder exists", path.string()), "--force overwrites");
      return;
    }
    made_ = fs::create_directory(path, error);
    if (!made_) fail_output("{}: cannot make the folder: {}", path.string(), error.message());
  }
  NewFolder(const NewFolder&) = delete;
  ~NewFolder() {
    std::error_code ignored;
    if (made_ && !kept_) fs::remove(path_, ignored);  // removes only an empty folder
  }
  void keep() { kept_ = true; }

 private:
  fs::path path_;
  bool made_ = false, kept_ = false;
};

/// The config of a folder with folded tensors, which are float32: a loader that follows it must neither round
/// them to 16 bits nor look for scales.
std::string float_config(const fs::path& model) {
  Json config = parse_json(config_text(model), model.string());
  const char* key = config.contains("torch_dtype") && !config.contains("dtype") ? "torch_dtype" : "dtype";
  config[key] = "float32";
  config.erase("quantization_config");
  return dump_json(config);
}

/// The entries in the order of the file: wide elements first, so that every tensor begins at a multiple of
/// its element size, then by name.
std::vector<std::pair<const Tensor*, TensorEntry>> plan(const Checkpoint& model, const Fold& fold) {
  std::vector<std::pair<const Tensor*, TensorEntry>> out;
  for (const auto& [name, t] : model.tensors()) {
    TensorEntry entry{name, t.dtype_name, t.shape, t.data.size()};
    if (fold.changes(name) || is_quantized(t.dtype)) {
      entry.dtype_name = "F32";
      entry.bytes = uint64_t(t.elements()) * sizeof(float);
    }
    out.emplace_back(&t, std::move(entry));
  }
  const auto width = [](const auto& e) {
    return e.second.bytes / uint64_t(std::max<int64_t>(1, e.first->elements()));
  };
  std::stable_sort(out.begin(), out.end(), [&](const auto& a, const auto& b) { return width(a) > width(b); });
  return out;
}

/// Writes a tensor unchanged. One that is quantized or whose rows are permuted goes through a buffer.
void write_tensor(const Tensor& tensor, SafetensorsWriter& writer) {
  constexpr int64_t kBlock = 1 << 20;
  const bool quantized = is_quantized(tensor.dtype);
  if (!quantized && tensor.paired_rows == 0) return writer.write(tensor.data);
  const int64_t bytes = quantized ? int64_t(sizeof(float)) : block_size(tensor.dtype).bytes;
  std::vector<float> block(static_cast<size_t>(kBlock));
  auto* const out = reinterpret_cast<std::byte*>(block.data());
  for (int64_t first = 0; first < tensor.elements(); first += kBlock) {
    const int64_t n = std::min(kBlock, tensor.elements() - first);
    if (quantized) {
      tensor.read(first, n, block.data());
    } else {
      tensor.copy(first, n, out);
    }
    writer.write({out, size_t(n * bytes)});
  }
}

void write_weights(const Checkpoint& model, const Fold& fold, OutputFile& file) {
  const auto tensors = plan(model, fold);
  std::vector<TensorEntry> entries;
  for (const auto& [tensor, entry] : tensors) entries.push_back(entry);
  SafetensorsWriter writer(
      file, entries,
      {{"format", "pt"}, {"folded", fold.values() ? "key balance, value basis" : "key balance"}});
  for (const auto& [tensor, entry] : tensors) {
    check_stop();
    if (fold.changes(tensor->name)) {
      const std::vector<float> folded = fold.folded(*tensor);
      writer.write(std::as_bytes(std::span(folded)));
    } else {
      write_tensor(*tensor, writer);
    }
    model.release(*tensor);
  }
  writer.finish();
}

}  // namespace

void write_folded(const Checkpoint& model, const Fold& fold, const fs::path& folder, bool force) {
  std::error_code error;
  if (fs::equivalent(folder, model.folder(), error))
    fail_output("{}: cannot write: it is the model's own folder", folder.string());
  NewFolder made(folder, force);
  std::vector<std::unique_ptr<OutputFile>> files;  // all are begun before any appears; config.json is last
  files.push_back(std::make_unique<OutputFile>(folder / kWeights, force));
  write_weights(model, fold, *files.back());
  const auto add = [&](const char* name, std::string_view text) {
    files.push_back(std::make_unique<OutputFile>(folder / name, force));
    files.back()->write(text);
  };
  if (is_gguf(model.folder())) {
    add("tokenizer.json", gguf_tokenizer(model.folder()));
  } else {
    for (const char* name : kCopied)
      if (fs::exists(model.folder() / name)) add(name, MappedFile(model.folder() / name).text());
  }
  add("config.json", float_config(model.folder()));
  std::vector<OutputFile*> all;
  for (const auto& file : files) all.push_back(file.get());
  commit_all(all);
  made.keep();
}

}  // namespace blockgtq
