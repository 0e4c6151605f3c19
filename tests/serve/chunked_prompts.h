// Prompts that a GPU reads in chunks, against the CPU's over the same kinds of cache.
#pragma once
#include "over_pages.h"
#include "plain_cache.h"
#include "serve/paged_sequence.h"

namespace blockgtq::test {

/// The logits behind a prompt and behind each of these tokens.
inline std::vector<std::vector<float>> run(Sequence& sequence, std::span<const int32_t> prompt,
                                           std::span<const int32_t> next) {
  std::vector<std::vector<float>> all;
  const auto keep = [&](std::span<const float> logits) { all.emplace_back(logits.begin(), logits.end()); };
  keep(sequence.append(prompt));
  for (const int32_t& token : next) keep(sequence.append({&token, 1}));
  return all;
}

#ifdef BLOCKGTQ_CUDA
struct PromptKind {
  std::string keys;
  double bits, step;  // how far keys and values of the first layer may be from the twin's
  ExactWindow exact;
};

/// Distances of logits. Where two experts are as likely as each other, rounding decides, and a token that
/// goes elsewhere is seen by all after it: of a model with experts a third of them may be too large.
class Distances {
 public:
  Distances(double bound, bool experts) : bound_(bound), experts_(experts) {}
  void add(std::span<const float> got, std::span<const float> want) {
    const double distance = relative_distance(got, want);
    ++n_;
    apart_ += !(distance < bound_);
    if (!experts_) CHECK(distance < bound_);
  }
  void check() const {
    INFO(apart_ << " of " << n_ << " too large");
    CHECK(apart_ <= (experts_ ? n_ / 3 : 0));
  }

 private:
  const double bound_;
  const bool experts_;
  int n_ = 0, apart_ = 0;
};

/// Prompts of some lengths in chunks of some lengths, and ten tokens behind each. Queries, keys, values and
/// attention's results are in fp16, over the same keys and values: those of packed pages are the GPU's own.
inline void check_prompts(const Checkpoint& model, const std::vector<PromptKind>& kinds,
                          const std::vector<int64_t>& chunks, const std::vector<size_t>& lengths) {
  const auto distance = [](const std::vector<double>& a, const std::vector<double>& b) {
    return relative_distance(std::vector<float>(a.begin(), a.end()), std::vector<float>(b.begin(), b.end()));
  };
  const Config& c = model.config();
  const AttentionShape shape = attention_shape(c, 1);
  const std::vector<int32_t> tokens = some_tokens(330, c.vocab);
  Distances near(2e-3, c.moe.n_experts > 0);
  for (const PromptKind& k : kinds) {
    KvKind kind;
    kind.exact = k.exact;
    if (!k.keys.empty()) kind.packed = packed_specs(plain_cache(shape, k.bits, k.keys), shape, k.keys);
    for (const int64_t chunk : chunks)
      for (const size_t n : lengths) {
        INFO(k.keys << " " << k.exact.recent << ", chunk " << chunk << ", prompt " << n);
        const auto prompt = std::span(tokens).first(n), next = std::span(tokens).subspan(n, 10);
        const auto twin = make_paged_sequence(model, shape, kind, 330, chunk);
        const auto sequence = make_cuda_sequence(model, shape, kind, fp32(), 330, chunk);
        const auto want = run(*twin, prompt, next), got = run(*sequence, prompt, next);
        const size_t last = (n - 1) / size_t(chunk) * size_t(chunk);  // chunk
        if (k.keys.empty() || last == 0) near.add(got[0], want[0]);
        if (k.keys.empty()) near.add(got.back(), want.back());
        near.add(got.back(), over_pages(model, held_by(*sequence), tokens, n + 9));
        if (last > 0) {
          const auto before = make_cuda_sequence(model, shape, kind, fp32(), 330, chunk);
          before->append(prompt.first(last));
          near.add(got[0], logits_behind(model, past_of(c, held_by(*before), int64_t(last)),
                                         prompt.subspan(last), nullptr));
        }
        CHECK(sequence->cache_bytes() == twin->cache_bytes());
        const PlainPositions of_twin = twin->held(0), held = sequence->held(0);
        CHECK(distance(held.k, of_twin.k) < k.step);
        CHECK(distance(held.v, of_twin.v) < k.step);
      }
  }
  near.check();
}
#endif

}  // namespace blockgtq::test
