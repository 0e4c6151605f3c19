#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace blockgtq {

/// Bit-shift trellis codes. The codes of d coordinates, `bits` each, form one circular stream, first code
/// lowest. Coordinate j is table[w]: w is the window of kTrellisWindow bits of the stream that ends with code
/// j, which is its highest bits. So neighbours share bits, and every coordinate has 2^kTrellisWindow levels.
/// One look-up decodes a coordinate, in any order.
inline constexpr int kTrellisWindow = 8;
inline constexpr int kTrellisStates = 1 << kTrellisWindow;
inline constexpr int kMaxTrellisBits = 5;    // above, a window holds too few codes to gain
inline constexpr int kLeastTrellisDim = 16;  // a shorter stream loses more where it closes than it gains

using TrellisTable = std::array<float, kTrellisStates>;

/// The table for coordinates of variance 1, bits in 1..kMaxTrellisBits. tests/tools/train_trellis learned it
/// on normal numbers.
const TrellisTable& trellis_table(int bits);

/// y (n, d) -> codes (n, d) with the least squared error, by a Viterbi search. The stream is circular, so the
/// search runs twice: from the middle, to find the bits at the seam, then with both ends held to them.
/// Deterministic; a vector's codes do not depend on its neighbours.
void trellis_encode(const float* y, size_t n, int d, int bits, const TrellisTable& table, uint8_t* codes);

/// codes (d) -> windows (d), the table index of every coordinate.
void trellis_windows(std::span<const uint8_t> codes, int bits, uint8_t* windows);

}  // namespace blockgtq
