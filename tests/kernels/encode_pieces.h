// Tokens that go into pages piece by piece, for the tests of encoders.
#pragma once
#include "../cache/samples.h"
#include "kernels/cache/packed_encode.h"
#include "sequences.h"

namespace blockgtq::test {

/// `tokens` of every sequence into pages, from `starts` on, without the layer's tables.
inline cuda::EncodeTokens encode_job(const Sequences& s, const cuda::Buffer& pages, const cuda::Buffer& table,
                                     const cuda::Buffer& starts, int tokens, const void* k, const void* v,
                                     cuda::FloatType type) {
  cuda::EncodeTokens job;
  job.cache = {pages.as<uint8_t>(), table.as<int32_t>(), s.stride, nullptr};
  job.pages = pages.as<uint8_t>();
  job.batch = int(s.lengths.size());
  job.starts = starts.as<int32_t>();
  job.tokens = tokens;
  job.k = k;
  job.v = v;
  job.type = type;
  return job;
}

/// Encodes tokens (k and v (T, H, D) of every sequence) at positions `start` and on, so many at a time as
/// `pieces` says, into the sequences' pages. encode_piece(job) launches a piece; it is waited for.
template <class Encode>
void encode_pieces(const std::vector<Tokens>& tokens, const Sequences& s, const std::vector<int>& pieces,
                   int start, cuda::FloatType type, const cuda::Buffer& pages, const cuda::Buffer& table,
                   const cuda::Stream& stream, const Encode& encode_piece) {
  int total = start;
  for (const int n : pieces) total += n;
  const auto width = int64_t(tokens[0].k.size()) / total;
  int at = start;
  for (const int n : pieces) {
    std::vector<float> k, v;
    for (const Tokens& t : tokens) {
      k.insert(k.end(), t.k.begin() + at * width, t.k.begin() + (at + n) * width);
      v.insert(v.end(), t.v.begin() + at * width, t.v.begin() + (at + n) * width);
    }
    const cuda::Buffer keys = to_device(encode(k, type), stream), values = to_device(encode(v, type), stream),
                       starts = to_device(std::vector<int32_t>(tokens.size(), at), stream);
    encode_piece(encode_job(s, pages, table, starts, n, keys.as(), values.as(), type));
    stream.synchronize();
    at += n;
  }
}

}  // namespace blockgtq::test
