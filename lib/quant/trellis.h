#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace blockgtq {

/// Bit-shift trellis codes: the codes of d coordinates, `bits` each, are one circular stream, first code
/// lowest. Coordinate j is table[w], w the kTrellisWindow bits of the stream that end with code j, which is
/// its highest bits. So neighbours share bits, every coordinate has 2^kTrellisWindow levels, and one is
/// decoded by one look-up, in any order.
inline constexpr int kTrellisWindow = 8;
inline constexpr int kTrellisStates = 1 << kTrellisWindow;
inline constexpr int kMaxTrellisBits = 5;    // above, a window holds too few codes to gain
inline constexpr int kLeastTrellisDim = 16;  // shorter streams lose more at their seam than they gain

using TrellisTable = std::array<float, kTrellisStates>;

/// The table for coordinates of variance 1; bits in 1..kMaxTrellisBits. Learned on normal numbers by
/// tests/tools/train_trellis.
const TrellisTable& trellis_table(int bits);

/// y (n, d) -> codes (n, d) whose values lie nearest in the sum of squares: a Viterbi search. The stream is
/// circular, so the search runs twice: from the middle to learn the bits at the seam, then with both ends
/// held to them. Deterministic; a vector's codes do not depend on its neighbours.
void trellis_encode(const float* y, size_t n, int d, int bits, const TrellisTable& table, uint8_t* codes);

/// codes (d) -> the window of every coordinate (d)
void trellis_windows(std::span<const uint8_t> codes, int bits, uint8_t* windows);

}  // namespace blockgtq
