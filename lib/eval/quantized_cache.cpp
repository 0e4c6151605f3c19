#include "eval/quantized_cache.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "base/parallel.h"
#include "eval/place.h"

namespace blockgtq {
namespace {

constexpr int64_t kTile = 128;  // tokens of one piece, where tokens are coded independently

/// Tokens [first, first + n) of one head of x (T, H, D).
struct Piece {
  const Quantizer* quantizer;
  float* x;        // of the first token's head
  int64_t stride;  // H * D
  int64_t n;
  int head;
};

void add_pieces(const CodedTokens& coded, std::vector<Piece>& out) {
  const int64_t stride = coded.width();
  int64_t column = 0;
  for (size_t h = 0; h < coded.heads->size(); ++h) {
    const Quantizer* quantizer = coded.heads->at(h).get();
    const int64_t tile = quantizer->per_vector() ? kTile : coded.n;
    for (int64_t t = 0; t < coded.n; t += tile)
      out.push_back({quantizer, coded.x + t * stride + column, stride, std::min(tile, coded.n - t), int(h)});
    column += quantizer->dim();
  }
}

/// Encodes and decodes in place. Returns how many fp16 numbers were clipped.
int64_t round_trip(const Piece& piece) {
  const int64_t dim = piece.quantizer->dim();
  std::vector<float> rows(size_t(piece.n * dim));  // (n, D)
  std::vector<uint8_t> codes(piece.quantizer->code_bytes(size_t(piece.n)));
  for (int64_t t = 0; t < piece.n; ++t) std::copy_n(piece.x + t * piece.stride, dim, rows.data() + t * dim);
  at_head(piece.head, [&] { piece.quantizer->encode(rows.data(), size_t(piece.n), codes.data()); });
  piece.quantizer->decode(codes.data(), size_t(piece.n), rows.data());
  for (int64_t t = 0; t < piece.n; ++t) std::copy_n(rows.data() + t * dim, dim, piece.x + t * piece.stride);
  return piece.quantizer->clipped(codes.data(), size_t(piece.n));
}

}  // namespace

double held_bytes(const Quantizer& quantizer, const ExactWindow& exact, int64_t n) {
  constexpr int64_t kExactBytes = 2;
  const int64_t n_exact = exact.count(n);
  const double codes = n > n_exact ? double(quantizer.code_bytes(size_t(n - n_exact))) : 0;
  return codes + double(kExactBytes * n_exact * quantizer.dim());
}

double QuantizedCache::bytes(const std::vector<HeadQuantizers>& layers, int64_t n) const {
  double sum = 0;
  for (const HeadQuantizers& heads : layers)
    for (const auto& quantizer : heads) sum += held_bytes(*quantizer, exact, n) / double(n);
  return sum;
}

std::vector<CodedTokens> coded_tokens(const CachedLayer& layer) {
  const auto l = size_t(layer.layer);
  std::vector<CodedTokens> coded;
  for (size_t w = 0; w < layer.caches.size(); ++w) {
    const QuantizedCache& cache = *layer.caches[w];
    const int64_t begin = int64_t(w) * layer.chunk, n = std::min(layer.chunk, layer.n_tokens - begin);
    const int64_t first = begin + std::min(cache.exact.sink, n), count = n - cache.exact.count(n);
    auto add = [&](const std::vector<HeadQuantizers>& layers, float* x) {
      if (layers.empty() || count <= 0) return;
      check(x != nullptr, "coded_tokens: quantizers of what is not there");
      CodedTokens& added = coded.emplace_back(CodedTokens{&layers[l], x, count});
      added.x += first * added.width();
    };
    add(cache.keys, layer.k);
    add(cache.values, layer.v);
  }
  return coded;
}

int64_t requantize(int layer, std::span<const CodedTokens> coded) {
  std::vector<Piece> pieces;
  for (const CodedTokens& tokens : coded) add_pieces(tokens, pieces);
  std::vector<int64_t> clipped(pieces.size());
  at_layer(layer,
           [&] { parallel_for(pieces.size(), [&](size_t i) { clipped[i] = round_trip(pieces[i]); }); });
  return std::accumulate(clipped.begin(), clipped.end(), int64_t(0));
}

int64_t requantize(const CachedLayer& layer) {
  return requantize(layer.layer, coded_tokens(layer));
}

}  // namespace blockgtq
