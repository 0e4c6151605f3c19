#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace blockgtq {

/// Bit-shift trellis codes. The codes of all coordinates form one circular stream, first code lowest. A
/// coordinate is table[w]: w is the window of kTrellisWindow bits of the stream that ends with its code,
/// which is the highest bits of w. The table is that of the coordinate's number of bits. So neighbours share
/// bits, and every coordinate has 2^kTrellisWindow levels. One look-up decodes a coordinate, in any order.
inline constexpr int kTrellisWindow = 8;
inline constexpr int kTrellisStates = 1 << kTrellisWindow;
inline constexpr int kMaxTrellisBits = 5;    // above, a window holds too few codes to gain
inline constexpr int kLeastTrellisDim = 16;  // a shorter stream loses more where it closes than it gains

using TrellisTable = std::array<float, kTrellisStates>;

/// The table for coordinates of variance 1, bits in 1..kMaxTrellisBits. tests/tools/train_trellis learned it
/// on normal numbers.
const TrellisTable& trellis_table(int bits);

/// Neighbouring coordinates of a stream, which have the same number of bits.
struct TrellisRun {
  int d = 0, bits = 0;
  const float* table = nullptr;  // (kTrellisStates)
  float weight = 1;              // of the squared errors in the search
};

/// One over the expected squared error of a coordinate of a unit vector of norm_d coordinates, up to a
/// factor: as weights of runs these make their errors count alike.
inline float trellis_weight(int norm_d, int bits) {
  return float(norm_d) * float(1 << 2 * bits);
}

/// y (n, d) -> codes (n, d) with the least squared error, by a Viterbi search. d: that of all runs together,
/// which form one stream. The stream is circular, so the search runs twice: from the middle, to find the bits
/// at the seam, then with both ends held to them. Deterministic; a vector's codes do not depend on its
/// neighbours.
void trellis_encode(const float* y, size_t n, std::span<const TrellisRun> runs, uint8_t* codes);

/// codes (d) -> windows (d), the table index of every coordinate.
void trellis_windows(std::span<const uint8_t> codes, std::span<const TrellisRun> runs, uint8_t* windows);

}  // namespace blockgtq
