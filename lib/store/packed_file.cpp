// PACKED.h5, schema "blockgtq.packed". Besides what preamble.h lists it has:
//   attributes  n_tokens, method, average_bits, seed (uint64), map_signature
//   datasets    bits (L, H, B) uint8 in block order (method klt: of the pairs of its basis)
//               in the group layerNN/headNN of every layer and KV head:
//               k (T, code_bytes) uint8, the code of a key per row, in the order that the method's header
//               documents (LinearQuantizer: a set sign bit of the first norm marks a plain TQ-MSE code in its
//               place, and the number of a centre ends the streams)
#include "store/packed_file.h"

#include <fmt/format.h>

#include "base/error.h"
#include "quant/codebook.h"
#include "quant/methods.h"
#include "store/preamble.h"

namespace blockgtq {
namespace {

constexpr const char* kSchema = "blockgtq.packed";

std::string head_name(int layer, int kv_head) {
  return fmt::format("{}/head{:02}", layer_name(layer), kv_head);
}

Dims block_dims(const AttentionShape& shape) {
  return {uint64_t(shape.n_layers), uint64_t(shape.n_kv_heads), uint64_t(shape.layout.n_blocks())};
}

bool is_head(const AttentionShape& shape, int layer, int kv_head) {
  return layer >= 0 && layer < shape.n_layers && kv_head >= 0 && kv_head < shape.n_kv_heads;
}

}  // namespace

struct PackedWriter::State {
  H5Output file;
  PackedHeader header;
  std::vector<bool> written;  // (L, H)
};

PackedWriter::PackedWriter(const fs::path& path, const PackedHeader& header)
    : state_(new State{{path, kSchema, version_for(header.shape)},
                       header,
                       std::vector<bool>(size_t(header.shape.n_layers) * header.shape.n_kv_heads)}) {
  const Dims dims = block_dims(header.shape);
  check(header.bits.size() == dims[0] * dims[1] * dims[2], "bits (L, H, B)");
  H5Output& file = state_->file;
  write_preamble(file, header.shape, header.signature, header.provenance);
  file.put_int("n_tokens", header.n_tokens);
  file.put_text("method", header.method);
  file.put_real("average_bits", header.average_bits);
  file.put_u64("seed", header.seed);
  file.put_text("map_signature", header.map_signature);
  file.write("bits", dims, header.bits.data());
  for (int l = 0; l < header.shape.n_layers; ++l) file.group(layer_name(l));
}

PackedWriter::~PackedWriter() = default;

void PackedWriter::write_head(int layer, int kv_head, const uint8_t* codes, size_t code_bytes) {
  const AttentionShape& shape = state_->header.shape;
  check(is_head(shape, layer, kv_head), "head to write");
  const size_t index = size_t(layer) * shape.n_kv_heads + kv_head;
  check(!state_->written[index], "head to write");
  const std::string name = head_name(layer, kv_head);
  state_->file.group(name);
  state_->file.write(name + "/k", {uint64_t(state_->header.n_tokens), code_bytes}, codes);
  state_->written[index] = true;
}

void PackedWriter::finish() {
  for (bool written : state_->written) check(written, "a head was not written");
  state_->file.finish();
}

struct PackedReader::State {
  H5Input file;
  PackedHeader header;
};

PackedReader::PackedReader(const fs::path& path) : state_(new State{{path, kSchema, kSpecialVersion}, {}}) {
  const H5Input& file = state_->file;
  PackedHeader& header = state_->header;
  Preamble preamble = read_preamble(file);
  header.shape = std::move(preamble.shape);
  header.signature = std::move(preamble.signature);
  header.provenance = std::move(preamble.provenance);
  header.n_tokens = file.get_int("n_tokens", 1, kMaxStoredTokens);
  header.method = file.get_text("method");
  if (!find_method(key_methods(), header.method))
    fail_input("{}: method: {}, not known", file.path(), header.method.substr(0, 100));
  header.average_bits = file.get_real("average_bits");
  if (header.average_bits < 1 || header.average_bits > kMaxBits)
    fail_input("{}: average_bits: {}, allowed 1 to {}", file.path(), header.average_bits, kMaxBits);
  header.seed = file.get_u64("seed");
  header.map_signature = file.get_text("map_signature");
  header.bits = file.read<uint8_t>("bits", block_dims(header.shape));
  const int least = header.method == "klt" ? 0 : 1;  // klt may drop pairs of its basis
  for (uint8_t b : header.bits)
    if (b < least || b > kMaxBits)
      fail_input("{}: bits: {}, allowed {} to {}", file.path(), b, least, kMaxBits);
}

PackedReader::~PackedReader() = default;

const PackedHeader& PackedReader::header() const {
  return state_->header;
}

std::vector<uint8_t> PackedReader::read_head(int layer, int kv_head) const {
  const PackedHeader& h = state_->header;
  check(is_head(h.shape, layer, kv_head), "head to read");
  const std::string name = head_name(layer, kv_head) + "/k";
  const Dims dims = state_->file.dims(name, 2);
  const uint64_t float_bytes =
      4 * uint64_t(h.shape.layout.head_dim);  // no code is longer than the key in float32
  if (dims[0] != uint64_t(h.n_tokens) || dims[1] > float_bytes)
    fail_input("{}: {}: {} x {}, allowed {} x up to {}", state_->file.path(), name, dims[0], dims[1],
               h.n_tokens, float_bytes);
  return state_->file.read<uint8_t>(name, dims);
}

}  // namespace blockgtq
