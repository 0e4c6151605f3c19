#include "quant/cost.h"

#include <fmt/format.h>

#include <cmath>

#include "base/error.h"

namespace blockgtq {

namespace {

constexpr int kNormBlockBits = 8;  // a norm has 16 bits, and a block bit is two of them
constexpr int kByteBlockBits = 4;

struct Content {
  int64_t code_bits, norms;  // of a key
};

Content content(std::span<const uint8_t> bits, NormKind norms) {
  int64_t sum = 0;
  unsigned widths = 0;
  for (const uint8_t b : bits) sum += b, widths |= 1u << b;
  return {2 * sum, bits.empty() ? 0 : norms == NormKind::key ? 1 : __builtin_popcount(widths)};
}

}  // namespace

CostKind parse_cost(const std::string& text) {
  for (const CostKind kind : {CostKind::nominal, CostKind::packed, CostKind::page})
    if (text == name(kind)) return kind;
  throw Error(Exit::usage, fmt::format("cost: '{}' found, nominal, packed or page allowed", text));
}

const char* name(CostKind kind) {
  return kind == CostKind::nominal ? "nominal" : kind == CostKind::packed ? "packed" : "page";
}

NormKind parse_norms(const std::string& text) {
  for (const NormKind norms : {NormKind::group, NormKind::key})
    if (text == name(norms)) return norms;
  throw Error(Exit::usage, fmt::format("norms: '{}' found, group or key allowed", text));
}

const char* name(NormKind norms) {
  return norms == NormKind::group ? "group" : "key";
}

double Cost::bytes(std::span<const uint8_t> bits) const {
  const auto [code_bits, n_norms] = content(bits, norms);
  switch (kind) {
    case CostKind::nominal:
      return double(code_bits) / 8;
    case CostKind::packed:
      return double((code_bits + 7) / 8 + 2 * n_norms);
    case CostKind::page:
      break;
  }
  const int64_t page = (kPagePositions * code_bits + 7) / 8 + kPagePositions * 2 * n_norms;
  return double((page + kPageAlignment - 1) / kPageAlignment * kPageAlignment) / kPagePositions;
}

int Cost::per_group() const {
  return kind != CostKind::nominal && norms == NormKind::group ? kNormBlockBits : 0;
}

int Cost::per_key() const {
  return kind != CostKind::nominal && norms == NormKind::key ? kNormBlockBits : 0;
}

int Cost::step() const {
  return kind == CostKind::packed ? kByteBlockBits : 1;
}

int64_t Cost::block_bits(double bytes) const {
  // An average such as 2.3 has no exact double. 10 blocks at 2.3 must be 23 bits, even where the product is
  // just below 23. The guard is far above that error (1e-13), and far below any average that a user could
  // mean.
  const double steps = kByteBlockBits * bytes / step();
  return int64_t(std::floor(steps + 1e-9)) * step();
}

}  // namespace blockgtq
