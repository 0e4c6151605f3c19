#include "cache_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "base/stop.h"
#include "eval/cuda_divergence.h"
#include "eval/cuda_requantize.h"
#include "evaluation.h"

namespace blockgtq {
namespace {

constexpr int64_t kPassTokens = 8192;  // of one forward pass, all caches together
constexpr int64_t kDevicePassTokens = 65536;

/// On a device larger passes read weights less often, and its memory is not the host's.
int64_t pass_tokens(const Session& session, int64_t chunk) {
  const int64_t room = session.backend->device_room() / 2;
  int64_t tokens = kDevicePassTokens;
  while (tokens > kPassTokens &&
         plan_memory(*session.model, tokens, std::min(chunk, tokens), true).activation_bytes > room)
    tokens /= 2;
  return std::max(tokens, kPassTokens);
}

/// One window under one cache.
struct Item {
  int64_t window;
  size_t cache;
};

/// What queries see of their last positions where their cache holds those exactly; the caches have yet to put
/// theirs in the place of the keys and values.
RecentPositions recent_positions(const CachedLayer& cached, const AttentionShape& shape) {
  RecentPositions recent;
  bool keys = false, values = false;
  for (const QuantizedCache* cache : cached.caches) {
    recent.n.push_back(cache->exact.recent);
    keys |= cache->exact.recent > 0 && !cache->keys.empty();
    values |= cache->exact.recent > 0 && !cache->values.empty();
  }
  if (!keys && !values) return {};
  const int64_t heads = cached.n_tokens * shape.n_kv_heads;
  if (keys) recent.k.assign(cached.k, cached.k + heads * shape.layout.head_dim);
  if (values) recent.v.assign(cached.v, cached.v + heads * shape.v_dim);
  return recent;
}

/// One forward pass over items of one length; returns how many fp16 norms and scales were cut.
int64_t run_pass(const Session& session, const CacheRun& run, std::span<const Item> items, int64_t length,
                 std::optional<CudaRequantizer>& device) {
  std::vector<int32_t> tokens;
  CachedLayer cached;
  for (const Item& item : items) {
    const auto window = run.tokens.subspan(size_t(item.window * run.chunk), size_t(length));
    tokens.insert(tokens.end(), window.begin(), window.end());
    cached.caches.push_back(run.caches[item.cache]);
  }
  int64_t clipped = 0;
  ForwardRequest request;
  request.tokens = tokens;
  request.chunk = length;
  request.on_layer = [&](LayerActivations& acts) {
    check_stop();
    cached.layer = acts.layer;
    cached.n_tokens = acts.n_tokens;
    cached.chunk = length;
    cached.k = acts.k;
    cached.v = acts.v;
    if (acts.stream) {
      if (!device) device.emplace();
      clipped += device->requantize(cached, acts.stream);
    } else {
      acts.recent = recent_positions(cached, session.shape);
      clipped += requantize(cached);
    }
  };
  request.on_logits = [&](int64_t first, int64_t n, const float* logits) {
    const Item& item = items[size_t(first / length)];
    if (run.start && item.window < run.start->window) return;
    run.on_logits(item.window, item.cache, first % length, n, logits);
  };
  if (run.on_device_logits)
    request.on_device_logits = [&](int64_t first, int64_t n, const float* logits, void* stream) {
      const Item& item = items[size_t(first / length)];
      if (run.start && item.window < run.start->window) return;
      run.on_device_logits(item.window, item.cache, first % length, n, logits, stream);
    };
  session.backend->forward(*session.model, request);
  return clipped;
}

}  // namespace

void run_caches(const Session& session, const CacheRun& run, const std::string& what, Progress& progress) {
  const int64_t n_tokens = int64_t(run.tokens.size()), chunk = run.chunk;
  check(chunk >= 1 && !run.caches.empty(), "run_caches: nothing to run");
  std::vector<Item> items;
  for (int64_t w = 0; w * chunk < n_tokens; ++w)
    for (size_t c = 0; c < run.caches.size(); ++c) items.push_back({w, c});
  auto length = [&](const Item& item) { return std::min(chunk, n_tokens - item.window * chunk); };

  CachePlace place =
      run.start.value_or(CachePlace{std::max<int64_t>(1, pass_tokens(session, chunk) / chunk), 0, 0, 0});
  const auto most = size_t(place.pass_items);
  const int64_t first_item = place.item, first_window = place.window;
  std::optional<CudaRequantizer> device;
  int64_t clipped = place.clipped;
  progress.begin(what, (n_tokens + chunk - 1) / chunk - first_window);
  for (auto i = size_t(first_item); i < items.size();) {
    if (run.on_place && int64_t(i) > first_item) run.on_place(place);
    size_t end = i;
    while (end < items.size() && end - i < most && length(items[end]) == length(items[i])) ++end;
    const int64_t pass = int64_t(i), clipped_before = clipped;
    clipped += run_pass(session, run, std::span(items).subspan(i, end - i), length(items[i]), device);
    for (; i < end; ++i) {
      const int64_t window = items[i].window;
      if (items[i].cache == 0) place = {place.pass_items, pass, window, clipped_before};
      if (items[i].cache + 1 < run.caches.size() || window < first_window) continue;
      progress.step(fmt::format("window {}", window));
    }
    if (i < items.size() && items[i].cache == 0)
      place = {place.pass_items, int64_t(i), items[i].window, clipped};
  }
  progress.end();
  warn_clipped(clipped, "keys or values of the quantized caches", progress);
}

Json json_of(const CachePlace& place) {
  return {{"pass_items", place.pass_items},
          {"item", place.item},
          {"window", place.window},
          {"clipped", place.clipped}};
}

CachePlace place_of(const Json& json) {
  return {json.at("pass_items"), json.at("item"), json.at("window"), json.at("clipped")};
}

namespace {

using Scores = std::vector<std::vector<TokenScore>>;  // (exact and caches, T)

/// The part of a cache's scores that windows before this one have.
std::span<const TokenScore> before(int64_t window, int64_t chunk, const std::vector<TokenScore>& scores) {
  return std::span(scores).first(size_t(std::min(window * chunk, int64_t(scores.size()))));
}

void save_scores(ResumeFile& resume, const CachePlace& place, int64_t chunk, const Scores& scores) {
  std::vector<ResumeFile::Array> arrays;
  for (const std::vector<TokenScore>& s : scores)
    arrays.emplace_back(fmt::format("{}", arrays.size()), before(place.window, chunk, s));
  resume.save(json_of(place), arrays);
}

/// Where an earlier run of the stage was, its scores in the place of these; nothing where there is none.
std::optional<CachePlace> read_scores(const ResumeFile& resume, int64_t chunk, Scores& scores) {
  const Json* state = resume.state();
  if (!state) return std::nullopt;
  const CachePlace place = place_of(*state);
  for (size_t c = 0; c < scores.size(); ++c) {
    const size_t n = before(place.window, chunk, scores[c]).size();
    const std::vector<TokenScore> read = resume.array<TokenScore>(fmt::format("{}", c), n);
    std::copy(read.begin(), read.end(), scores[c].begin());
  }
  return place;
}

bool has_result(const ResumeFile& resume) {
  return resume.state() && resume.state()->contains("ended");
}

void end_with(ResumeFile& resume, const QualityRun& result) {
  std::vector<ResumeFile::Array> arrays = {{"exact", std::span(&result.exact, 1)}, {"caches", result.caches}};
  for (const std::vector<double>& kl : result.kl)
    arrays.emplace_back(fmt::format("kl/{}", arrays.size() - 2), kl);
  resume.end({{"ended", true}}, arrays);
}

/// The result that the stage ended with, which is kept for what follows.
QualityRun read_result(ResumeFile& resume, size_t n_caches, int64_t n_tokens) {
  QualityRun result;
  result.exact = resume.array<Quality>("exact", 1)[0];
  result.caches = resume.array<Quality>("caches", n_caches);
  for (size_t c = 0; c < n_caches; ++c)
    result.kl.push_back(resume.array<double>(fmt::format("kl/{}", c), size_t(n_tokens)));
  end_with(resume, result);
  return result;
}

}  // namespace

QualityRun measure_quality(const Session& session, const std::vector<QuantizedCache>& caches,
                           const std::string& what, Progress& progress, ResumeFile* resume) {
  if (resume && has_result(*resume)) return read_result(*resume, caches.size(), session.n_tokens());
  const std::vector<int32_t>& ids = session.corpus.ids;
  const int64_t n_tokens = session.n_tokens(), chunk = session.chunk, vocab = session.model->config().vocab;
  std::vector<int32_t> next(ids.begin() + 1, ids.end());  // (T), -1 at the end of a window
  next.push_back(-1);
  for (int64_t t = chunk - 1; t < n_tokens; t += chunk) next[size_t(t)] = -1;

  const QuantizedCache exact;
  CacheRun run;
  run.tokens = ids;
  run.chunk = chunk;
  run.caches = {&exact};                              // what the others are held against
  if (!caches.empty()) run.caches.push_back(&exact);  // the noise floor
  for (const QuantizedCache& cache : caches) run.caches.push_back(&cache);
  std::vector<std::vector<TokenScore>> scores(caches.size() + 1);  // (exact and caches, T)
  for (auto& s : scores) s.resize(size_t(n_tokens));
  if (resume) {
    run.start = read_scores(*resume, chunk, scores);
    run.on_place = [&, saved = int64_t(0)](const CachePlace& place) mutable {
      if (place.window == saved || !resume->due()) return;
      save_scores(*resume, place, chunk, scores);
      saved = place.window;
    };
  }
  // reference: ExactLogits or its twin on a device, whose logits lie on `stream`
  auto judge = [&](auto& reference, int64_t w, size_t cache, int64_t first, int64_t n, const float* logits,
                   auto... stream) {
    const int64_t t = w * chunk + first;
    if (cache == 0) {
      reference.set(first, n, logits, stream...);
      if (!caches.empty()) return;  // the next pass is the exact cache's second
    }
    reference.compare(first, n, logits, next.data() + t, scores[cache == 0 ? 0 : cache - 1].data() + t,
                      stream...);
  };
  ExactLogits window;
  run.on_logits = [&](int64_t w, size_t cache, int64_t first, int64_t n, const float* logits) {
    if (caches.empty())
      return score_exact(n, vocab, logits, next.data() + w * chunk + first,
                         scores[0].data() + w * chunk + first);
    if (cache == 0 && first == 0) window.reset(std::min(chunk, n_tokens - w * chunk), vocab);
    judge(window, w, cache, first, n, logits);
  };
  std::optional<CudaExactLogits> device;
  const int64_t longest = std::min(chunk, n_tokens);
  if (CudaExactLogits::bytes(longest, vocab) <= session.backend->device_room()) {
    device.emplace(longest, vocab);
    run.on_device_logits = [&](int64_t w, size_t cache, int64_t first, int64_t n, const float* logits,
                               void* stream) { judge(*device, w, cache, first, n, logits, stream); };
  }
  run_caches(session, run, what, progress);

  QualityRun result;
  result.exact = summarize(scores[0]);
  for (size_t c = 1; c < scores.size(); ++c) {
    result.caches.push_back(summarize(scores[c]));
    std::vector<double>& kl = result.kl.emplace_back();
    for (const TokenScore& s : scores[c]) kl.push_back(s.kl);
    scores[c] = {};
  }
  if (resume) end_with(*resume, result);
  return result;
}

}  // namespace blockgtq
