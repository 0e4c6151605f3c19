// ACTS.h5, schema "blockgtq.acts". Besides what preamble.h lists it has:
//   attributes  n_tokens, chunk (tokens; 0: one window), dtype ("f32", "bf16", "f16")
//   datasets    tokens (T) int32, and in the group layerNN of every layer, before RoPE,
//               output (H, Dv, Dv) float64: sum over the group's query heads of W_o^T W_o; may be absent
//               q (T, Hq, D), k (T, H, D), v (T, H, Dv; only where v_dim > 0)
// Activations are float32, float16, or bfloat16. The latter is stored as its 16 bits in uint16, with the
// dataset's
// attribute stored_type = "bf16".
#include "store/acts_file.h"

#include <limits>

#include "base/error.h"
#include "base/float16.h"
#include "store/preamble.h"

namespace blockgtq {
namespace {

constexpr const char* kSchema = "blockgtq.acts";
constexpr const char* kTypeNames[] = {"f32", "bf16", "f16"};  // in the order of ActsType

H5Type stored(ActsType type) {
  return type == ActsType::bf16 ? H5Type::u16 : H5Type::f16;
}

Dims dims_of(const ActsHeader& h, int heads, int dim) {
  return {uint64_t(h.n_tokens), uint64_t(heads), uint64_t(dim)};
}

Dims output_dims(const AttentionShape& shape) {
  return {uint64_t(shape.n_kv_heads), uint64_t(shape.v_dim), uint64_t(shape.v_dim)};
}

}  // namespace

struct ActsWriter::State {
  H5Output file;
  ActsHeader header;
  int n_layers = 0;  // written
  size_t n_before;   // chunks of the arrays in front of the layers

  /// `packed`, where it is not null, gives the array's chunks in place of the values.
  void write(const std::string& name, const Dims& dims, const float* values, PackedChunks* packed) {
    const H5Type type = header.type == ActsType::f32 ? H5Type::f32 : stored(header.type);
    const std::string stored_type = header.type == ActsType::bf16 ? "bf16" : "";
    if (packed) return file.write_packed(name, dims, type, stored_type, *packed);
    if (header.type == ActsType::f32) return file.write(name, dims, values);
    const size_t n = dims[0] * dims[1] * dims[2];
    std::vector<uint16_t> bits(n);
    for (size_t i = 0; i < n; ++i)
      bits[i] = header.type == ActsType::bf16 ? to_bf16(values[i]) : to_half(values[i]);
    file.write(name, dims, bits.data(), type, stored_type);
  }

  void write_layer(const float* q, const float* k, const float* v, PackedChunks* packed) {
    const AttentionShape& shape = header.shape;
    check(n_layers < shape.n_layers, "a layer too many");
    const std::string name = layer_name(n_layers);
    file.group(name);
    if (!header.output.empty() && packed)
      file.write_packed(name + "/output", output_dims(shape), H5Type::f64, "", *packed);
    else if (!header.output.empty())
      file.write(name + "/output", output_dims(shape), header.output.at(size_t(n_layers)).data());
    write(name + "/q", dims_of(header, shape.n_heads, shape.layout.head_dim), q, packed);
    write(name + "/k", dims_of(header, shape.n_kv_heads, shape.layout.head_dim), k, packed);
    if (shape.v_dim > 0) write(name + "/v", dims_of(header, shape.n_kv_heads, shape.v_dim), v, packed);
    ++n_layers;
  }
};

ActsWriter::ActsWriter(const fs::path& path, const ActsHeader& header)
    : state_(new State{{path, kSchema, version_for(header.shape)}, header, 0, 0}) {
  check(header.tokens.size() == size_t(header.n_tokens), "one token id per token");
  H5Output& file = state_->file;
  write_preamble(file, header.shape, header.signature, header.provenance);
  file.put_int("n_tokens", header.n_tokens);
  file.put_int("chunk", header.chunk);
  file.put_text("dtype", kTypeNames[int(header.type)]);
  file.write("tokens", {header.tokens.size()}, header.tokens.data());
  state_->n_before = file.chunks().size();
}

ActsWriter::~ActsWriter() = default;

void ActsWriter::write_layer(int layer, const float* q, const float* k, const float* v) {
  check(layer == state_->n_layers, "the next layer to write");
  check(v != nullptr || state_->header.shape.v_dim == 0, "values of a layer");
  state_->write_layer(q, k, v, nullptr);
}

ActsProgress ActsWriter::progress() const {
  const std::vector<ChunkPlace>& chunks = state_->file.chunks();
  return {state_->n_layers, {chunks.begin() + int64_t(state_->n_before), chunks.end()}};
}

void ActsWriter::take_layers(const fs::path& unfinished, const ActsProgress& progress) {
  check(state_->n_layers == 0, "layers that are taken are the first");
  PackedChunks packed(unfinished, progress.chunks);
  for (int layer = 0; layer < progress.n_layers; ++layer)
    state_->write_layer(nullptr, nullptr, nullptr, &packed);
  check(packed.at_end(), "chunks of another file");
}

void ActsWriter::finish() {
  check(state_->n_layers == state_->header.shape.n_layers, "a layer was not written");
  state_->file.finish();
}

struct ActsReader::State {
  H5Input file;
  ActsHeader header;

  std::vector<float> read(const std::string& name, const Dims& dims) const {
    if (header.type == ActsType::f32) return file.read<float>(name, dims);
    const std::vector<uint16_t> bits = file.read<uint16_t>(name, dims, stored(header.type));
    std::vector<float> values(bits.size());
    if (header.type == ActsType::bf16)
      from_bf16(bits.data(), bits.size(), values.data());
    else
      from_half(bits.data(), bits.size(), values.data());
    return values;
  }
};

ActsReader::ActsReader(const fs::path& path) : state_(new State{{path, kSchema, kSpecialVersion}, {}}) {
  const H5Input& file = state_->file;
  ActsHeader& header = state_->header;
  Preamble preamble = read_preamble(file);
  header.shape = std::move(preamble.shape);
  header.signature = std::move(preamble.signature);
  header.provenance = std::move(preamble.provenance);
  header.n_tokens = file.get_int("n_tokens", 1, kMaxStoredTokens);
  header.chunk = file.get_int("chunk", 0, kMaxStoredTokens);
  const std::string type = file.get_text("dtype");
  int i = 0;
  while (i < 3 && type != kTypeNames[i]) ++i;
  if (i == 3) fail_input("{}: dtype: {}, allowed f32, bf16, f16", file.path(), type.substr(0, 100));
  header.type = ActsType(i);
  header.tokens = file.read<int32_t>("tokens", {uint64_t(header.n_tokens)});
  for (int32_t id : header.tokens)
    if (id < 0) fail_input("{}: tokens: {}, allowed from 0", file.path(), id);
  if (!file.has(layer_name(0) + "/output")) return;
  for (int l = 0; l < header.shape.n_layers; ++l) {
    const std::string name = layer_name(l) + "/output";
    header.output.push_back(file.read<double>(name, output_dims(header.shape)));
    check_finite(file, name, header.output.back(), -std::numeric_limits<double>::infinity());
  }
}

ActsReader::~ActsReader() = default;

const ActsHeader& ActsReader::header() const {
  return state_->header;
}

ActsReader::Layer ActsReader::read_layer(int layer) const {
  const ActsHeader& h = state_->header;
  check(layer >= 0 && layer < h.shape.n_layers, "layer to read");
  const std::string name = layer_name(layer);
  return {state_->read(name + "/q", dims_of(h, h.shape.n_heads, h.shape.layout.head_dim)),
          state_->read(name + "/k", dims_of(h, h.shape.n_kv_heads, h.shape.layout.head_dim)),
          state_->read(name + "/v", dims_of(h, h.shape.n_kv_heads, h.shape.v_dim))};
}

}  // namespace blockgtq
