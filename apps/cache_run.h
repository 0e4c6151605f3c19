#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "eval/divergence.h"
#include "eval/quantized_cache.h"
#include "session.h"

namespace blockgtq {

/// Where a run over caches stands between two passes, and goes on: with the pass that begins with `item`,
/// which is what windows from `window` on need, while all before them has been seen.
struct CachePlace {
  int64_t pass_items = 0;  // of one pass at most
  int64_t item = 0, window = 0;
  int64_t clipped = 0;  // fp16 norms and scales that were cut so far
};

Json json_of(const CachePlace& place);
CachePlace place_of(const Json& json);

/// Tokens to run the model over in windows of `chunk`, each from position 0, once with every cache.
struct CacheRun {
  std::span<const int32_t> tokens;  // (T)
  int64_t chunk = 0;                // at least 1
  std::vector<const QuantizedCache*> caches;
  /// The logits (n, vocab) of positions [first, first + n) of a window under caches[cache]: window by window,
  /// in each the caches in order.
  std::function<void(int64_t window, size_t cache, int64_t first, int64_t n, const float* logits)> on_logits;
  /// When set, called instead where the model runs on a device: see ForwardRequest.
  std::function<void(int64_t window, size_t cache, int64_t first, int64_t n, const float* logits,
                     void* stream)>
      on_device_logits;
  std::optional<CachePlace> start;                  // where it goes on; else at the first window
  std::function<void(const CachePlace&)> on_place;  // when set, called between two passes
};

/// The windows of all caches go through the layers side by side, so that weights are read once for many of
/// them; memory is that of some thousand tokens, on a device some ten thousand, however long the text. The
/// model must cache values per head where a cache quantizes them.
void run_caches(const Session& session, const CacheRun& run, const std::string& what, Progress& progress);

/// The quality of every cache on the session's text, and the noise floor: the exact cache against itself.
struct QualityRun {
  Quality exact;  // against itself; where there are caches, from two passes: not zero where arithmetic
                  // depends on the batch
  std::vector<Quality> caches;
  std::vector<std::vector<double>> kl;  // (n_caches, T) of every position
};
/// resume: null, or a stage that keeps what has been measured, and its result.
QualityRun measure_quality(const Session& session, const std::vector<QuantizedCache>& caches,
                           const std::string& what, Progress& progress, ResumeFile* resume);

}  // namespace blockgtq
