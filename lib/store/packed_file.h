#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "quant/attention_shape.h"

namespace blockgtq {

/// PACKED.h5: what a cache of the keys would hold. Datasets layerNN/headNN/k (T, code_bytes) of bytes, in the
/// order that the method's quantizer documents. map_signature names the map that decodes them.
struct PackedHeader {
  AttentionShape shape;
  int64_t n_tokens = 0;
  std::string method;  // "block-gtq"
  double average_bits = 0;
  uint64_t seed = 42;
  std::vector<uint8_t> bits;  // (L, H, B) as key_code_bits() returns them
  std::string map_signature, signature;
  Provenance provenance;
};

class PackedWriter {
 public:
  PackedWriter(const fs::path& path, const PackedHeader& header);
  ~PackedWriter();
  void write_head(int layer, int kv_head, const uint8_t* codes, size_t code_bytes);  // (T, code_bytes)
  void finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

class PackedReader {
 public:
  explicit PackedReader(const fs::path& path);
  ~PackedReader();
  const PackedHeader& header() const;
  std::vector<uint8_t> read_head(int layer, int kv_head) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace blockgtq
