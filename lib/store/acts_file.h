#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "quant/attention_shape.h"
#include "store/packed_chunks.h"

namespace blockgtq {

/// The element type of the stored activations.
enum class ActsType { f32, bf16, f16 };

/// ACTS.h5: K, Q and V of every layer before RoPE. Datasets layerNN/q (T, Hq, D), layerNN/k (T, H, D),
/// layerNN/v (T, H, Dv), and tokens (T). bf16 is stored as uint16 with the attribute `stored_type`.
struct ActsHeader {
  AttentionShape shape;
  int64_t n_tokens = 0;
  int64_t chunk = 256;  // tokens; 0: one window
  ActsType type = ActsType::f32;
  std::vector<int32_t> tokens;              // (T)
  std::vector<std::vector<double>> output;  // (L, (H, Dv, Dv)) as in LayerStats; may be empty
  std::string signature;
  Provenance provenance;
};

/// How far an unfinished file is: its first layers, and where in it their data lies.
struct ActsProgress {
  int n_layers = 0;
  std::vector<ChunkPlace> chunks;
};

class ActsWriter {
 public:
  /// Writes to `path`, which is an OutputFile's temporary name.
  ActsWriter(const fs::path& path, const ActsHeader& header);
  ~ActsWriter();
  /// Layer by layer, in order. v may be null.
  void write_layer(int layer, const float* q, const float* k, const float* v);
  ActsProgress progress() const;
  /// The first layers, of an unfinished file of the same header that was left at `progress`: their data as
  /// it lies there, so that the file becomes what it would have become. HDF5 does not see the unfinished
  /// one, which may be damaged: Exit::input where a checksum is not the one noted.
  void take_layers(const fs::path& unfinished, const ActsProgress& progress);
  void finish();  // marks the file complete; every close is checked

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Every failure is Exit::input.
class ActsReader {
 public:
  explicit ActsReader(const fs::path& path);
  ~ActsReader();
  const ActsHeader& header() const;
  struct Layer {
    std::vector<float> q, k, v;  // (T, Hq, D), (T, H, D), (T, H, Dv) or empty
  };
  Layer read_layer(int layer) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace blockgtq
