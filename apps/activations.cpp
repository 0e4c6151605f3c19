#include "activations.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/error.h"
#include "decimal.h"
#include "hf/fingerprint.h"
#include "hf/safetensors.h"
#include "hf/safetensors_metadata.h"
#include "store/schema.h"

namespace blockgtq {
namespace {

constexpr int64_t kMaxLayers = 1024, kMaxHeads = 1024, kMaxHeadDim = 512;

class Dump : public Activations {
 public:
  explicit Dump(const std::string& path) : reader_(path) {}
  const ActsHeader& header() const override { return reader_.header(); }
  ActsReader::Layer read_layer(int layer) const override { return reader_.read_layer(layer); }

 private:
  ActsReader reader_;
};

class Captured : public Activations {
 public:
  explicit Captured(const std::string& path) : file_(path) {
    for (Tensor& tensor : read_safetensors(file_)) {
      const std::string name = tensor.name;
      tensors_.emplace(name, std::move(tensor));
    }
    find_layers();
    set_shape();
    for (const auto& [key, value] : safetensors_metadata(file_)) set(key, value);
    set_rope();
    for (size_t l = 0; l < numbers_.size(); ++l) check_layer(int(l));
    header_.signature = Fingerprint({path}).hex();
    header_.provenance.insert(header_.provenance.begin(), {"captured", fs::path(path).filename().string()});
    header_.provenance.emplace_back("corpus_sha256", header_.signature);
  }
  const ActsHeader& header() const override { return header_; }

  ActsReader::Layer read_layer(int layer) const override {
    const auto numbers = [&](const char* what) {
      std::vector<float> values = read(name(layer, what));
      const auto bad = std::find_if(values.begin(), values.end(), [](float x) { return !std::isfinite(x); });
      if (bad != values.end())
        throw Error(
            Exit::nonfinite,
            fmt::format("{}: {}: token {}: {} found, finite numbers allowed", path(), name(layer, what),
                        (bad - values.begin()) / (int64_t(values.size()) / header_.n_tokens), *bad));
      return values;
    };
    return {numbers("q"), numbers("k"), header_.shape.v_dim > 0 ? numbers("v") : std::vector<float>{}};
  }

 private:
  std::string path() const { return file_.path().string(); }
  std::string name(int layer, const char* what) const {
    return fmt::format("layers.{}.{}", numbers_[size_t(layer)], what);
  }

  const Tensor& tensor(const std::string& name) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) fail_input("{}: tensor {} is missing", path(), name);
    if (found->second.dtype == DType::other)
      fail_input("{}: {}: {} found, F32, F16 or BF16 wanted", path(), name, found->second.dtype_name);
    return found->second;
  }

  std::vector<float> read(const std::string& name) const {
    const Tensor& t = tensor(name);
    std::vector<float> values(size_t(t.elements()));
    t.read(0, t.elements(), values.data());
    return values;
  }

  /// Every tensor is known, and every number of a layer has its keys.
  void find_layers() {
    for (const auto& [name, tensor] : tensors_) {
      if (name == "inv_freq") continue;
      const size_t dot = name.rfind('.');
      const bool ours = name.starts_with("layers.") && dot != std::string::npos && dot >= 7;
      const std::string what = ours ? name.substr(dot + 1) : "";
      const auto number = ours ? parse_whole(std::string_view(name).substr(7, dot - 7)) : std::nullopt;
      if (!number || *number < 0 || *number >= kMaxLayers ||
          (what != "q" && what != "k" && what != "v" && what != "output"))
        fail_input("{}: tensor {} found, layers.N.q, .k, .v, .output and inv_freq wanted", path(), name);
      if (what == "k") numbers_.push_back(int(*number));
    }
    if (numbers_.empty()) fail_input("{}: no layers.N.k", path());
    std::sort(numbers_.begin(), numbers_.end());
  }

  void set_shape() {
    const Tensor &q = tensor(name(0, "q")), &k = tensor(name(0, "k"));
    for (const Tensor* t : {&q, &k})
      if (t->shape.size() != 3)
        fail_input("{}: {}: shape {} found, (tokens, heads, D) wanted", path(), t->name,
                   shape_text(t->shape));
    AttentionShape& s = header_.shape;
    header_.n_tokens = k.shape[0];
    header_.type = ActsType::f32;
    header_.chunk = 0;
    const int64_t heads = q.shape[1], kv_heads = k.shape[1], dim = k.shape[2];
    if (header_.n_tokens < 1 || heads < 1 || heads > kMaxHeads || kv_heads < 1 || heads % kv_heads != 0 ||
        dim < 2 || dim > kMaxHeadDim || dim % 2 != 0)
      fail_input("{}: q {}, k {}: up to {} heads, a multiple of the KV heads, of an even D up to {} wanted",
                 path(), shape_text(q.shape), shape_text(k.shape), kMaxHeads, kMaxHeadDim);
    s.n_layers = int(numbers_.size());
    s.n_heads = int(heads);
    s.n_kv_heads = int(kv_heads);
    s.layout = {int(dim), int(dim), Pairing::half};
    if (tensors_.count(name(0, "v"))) {
      const Tensor& v = tensor(name(0, "v"));
      if (v.shape.size() != 3 || v.shape[2] < 2 || v.shape[2] > kMaxHeadDim || v.shape[2] % 2 != 0)
        fail_input("{}: {}: shape {} found, (tokens, KV heads, Dv) wanted", path(), v.name,
                   shape_text(v.shape));
      s.v_dim = int(v.shape[2]);
    }
    for (const int number : numbers_) s.modules.push_back(fmt::format("model.layers.{}.self_attn", number));
  }

  void set(const std::string& key, const std::string& value) {
    const auto wrong = [&](const char* wanted) {
      fail_input("{}: metadata {}: {} found, {} wanted", path(), key, value, wanted);
    };
    if (key == "chunk") {
      const auto chunk = parse_whole(value);
      if (!chunk || *chunk < 0 || *chunk > header_.n_tokens) wrong("a number of tokens, 0 or at most all");
      header_.chunk = *chunk;
    } else if (key == "pairing") {
      if (value != "half" && value != "interleaved") wrong("half or interleaved");
      header_.shape.layout.pairing = value == "half" ? Pairing::half : Pairing::interleaved;
    } else if (key == "attention_factor") {
      const auto factor = parse_decimal(value);
      if (!factor || !(*factor > 0)) wrong("a positive number");
      header_.shape.ropes[0].attention_factor = *factor;
    } else if (key == "model") {
      header_.provenance.emplace_back("model", value);
    } else if (key != "format") {  // which framework wrote the file, as safetensors' own writers say
      fail_input("{}: metadata {}: chunk, pairing, attention_factor and model wanted", path(), key);
    }
  }

  void set_rope() {
    const std::vector<float> frequencies = read("inv_freq");
    AttentionShape& s = header_.shape;
    if (tensor("inv_freq").shape.size() != 1 || frequencies.empty() ||
        2 * int(frequencies.size()) > s.layout.head_dim)
      fail_input("{}: inv_freq: shape {} found, 1 to {} frequencies wanted", path(),
                 shape_text(tensor("inv_freq").shape), s.layout.head_dim / 2);
    for (const float f : frequencies)
      if (!(f > 0) || !std::isfinite(f))
        fail_input("{}: inv_freq: {} found, positive numbers wanted", path(), f);
    s.layout.rotary_dim = 2 * int(frequencies.size());
    s.ropes[0].inv_freq.assign(frequencies.begin(), frequencies.end());
    s.ropes[0].inv_freq_raw = s.ropes[0].inv_freq;
  }

  /// As the first layer; and the moments of W_o, of every layer or of none.
  void check_layer(int layer) {
    const AttentionShape& s = header_.shape;
    const auto expect = [&](const char* what, const std::vector<int64_t>& shape) {
      const Tensor& t = tensor(name(layer, what));
      if (t.shape != shape)
        fail_input("{}: {}: shape {} found, {} wanted", path(), t.name, shape_text(t.shape),
                   shape_text(shape));
    };
    expect("q", {header_.n_tokens, s.n_heads, s.layout.head_dim});
    expect("k", {header_.n_tokens, s.n_kv_heads, s.layout.head_dim});
    if (s.v_dim > 0) expect("v", {header_.n_tokens, s.n_kv_heads, s.v_dim});
    if (!tensors_.count(name(0, "output"))) return;
    expect("output", {s.n_kv_heads, s.v_dim, s.v_dim});
    const std::vector<float> moment = read(name(layer, "output"));
    if (!std::all_of(moment.begin(), moment.end(), [](float x) { return std::isfinite(x); }))
      fail_input("{}: {}: finite numbers wanted", path(), name(layer, "output"));
    header_.output.emplace_back(moment.begin(), moment.end());
  }

  MappedFile file_;
  std::map<std::string, Tensor> tensors_;
  std::vector<int> numbers_;  // (L) the model's, ascending
  ActsHeader header_;
};

}  // namespace

std::unique_ptr<Activations> open_activations(const std::string& path) {
  if (is_hdf5(path)) return std::make_unique<Dump>(path);
  return std::make_unique<Captured>(path);
}

}  // namespace blockgtq
