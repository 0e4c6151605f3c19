// The pipeline of one layer: quantizers, chunks, heads, intervals.
#include <cmath>

#include "base/error.h"
#include "catch.h"
#include "eval/attention_error.h"
#include "eval/evaluate.h"
#include "eval/quantized_cache.h"
#include "eval/score.h"
#include "quant/random.h"

using namespace blockgtq;

namespace {

constexpr int kTokens = 50, kHeads = 6, kKvHeads = 2, kDim = 16, kValueDim = 8;

std::vector<Budget> budgets(std::initializer_list<double> averages) {
  std::vector<Budget> out;
  for (const double bits : averages) out.emplace_back().average_bits = bits;
  return out;
}

struct Layer {
  std::vector<float> q, k, v;
  EvalSpec spec;

  Layer() {
    Random random(11);
    auto fill = [&](std::vector<float>& x, size_t n) {
      x.resize(n);
      for (float& value : x) value = float(random.standard_normal());
    };
    fill(q, kTokens * kHeads * kDim);
    fill(k, kTokens * kKvHeads * kDim);
    fill(v, kTokens * kKvHeads * kValueDim);
    spec.shape.n_layers = 1;
    spec.shape.n_heads = kHeads;
    spec.shape.n_kv_heads = kKvHeads;
    spec.shape.v_dim = kValueDim;
    spec.shape.layout = {kDim, kDim, Pairing::half};
    for (int i = 0; i < kDim / 2; ++i)
      spec.shape.ropes[0].inv_freq.push_back(std::pow(10000.0, -2.0 * i / kDim));
    spec.methods = {"tq-mse"};
    spec.budgets = budgets({2, 2.5, 3});
    spec.model = spec.shape;
    spec.chunk = 16;
  }
  LayerResult run() const { return evaluate_layer(spec, 0, q.data(), k.data(), kTokens, v.data()); }
};

}  // namespace

TEST_CASE("metrics leave the published error as it is, bit for bit, and agree with it") {
  Layer layer;
  const LayerResult plain = layer.run();
  layer.spec.metrics = all_metrics();
  layer.spec.model->ropes[0].inv_freq.back() *= 0.5;
  const LayerResult full = layer.run();
  REQUIRE(full.results.size() == 3);
  for (size_t r = 0; r < 3; ++r) {
    const MethodResult& row = full.results[r];
    CHECK(plain.results[r].metrics.empty());
    CHECK(row.mae == plain.results[r].mae);
    REQUIRE(row.metrics.size() == all_metrics().size());
    for (size_t m = 0; m < row.metrics.size(); ++m) {
      const MetricValue& value = row.metrics[m];
      INFO(name(value.metric));
      CHECK(value.metric == all_metrics()[m]);
      CHECK(value.chunks.size() == 4);  // 16, 16, 16 and 2 tokens
      CHECK(value.value > 0);
      CHECK(value.low < value.value);
      CHECK(value.value < value.high);
    }
    CHECK(row.metrics[0].value == row.mae);
    // Chunk sums are differences of running ones: together they are the whole to rounding. At 2.5 bits the
    // chunks are interpolated, not their mean.
    if (!row.interpolated) CHECK(mean(row.metrics[0].chunks) == Approx(row.mae).epsilon(1e-13));
    CHECK(row.metrics[1].value != row.mae);                                    // another frequency,
    CHECK(row.metrics[1].value == Approx(row.mae).epsilon(0.3));               // not another metric
    CHECK(row.metrics[0].chunks[3].count == 2 * kHeads * layer.spec.offsets);  // 2 tokens
    CHECK(row.metrics[4].chunks[3].count == 0);  // topk: no query sees more than 8
    CHECK(row.metrics[4].chunks[0].count == 8 * kHeads);
  }
  // more bits: less error, more of the top kept; 2.5 bits between its neighbours
  for (size_t m = 0; m < all_metrics().size(); ++m) {
    const double sign = is_share_kept(all_metrics()[m]) ? -1 : 1;
    CHECK(sign * full.results[0].metrics[m].value > sign * full.results[1].metrics[m].value);
    CHECK(sign * full.results[1].metrics[m].value > sign * full.results[2].metrics[m].value);
  }
  CHECK(full.results[1].interpolated);
}

TEST_CASE("metrics with exact positions are those of the cache that holds them, and so are the bytes") {
  Layer layer;
  layer.spec.metrics = {Metric::mae, Metric::kl, Metric::output};
  layer.spec.methods = {"tq-mse", "kivi"};  // a code alone, and a scale that neighbours share
  layer.spec.budgets = budgets({2});
  const LayerResult plain = layer.run();
  for (const ExactWindow exact : {ExactWindow{3, 0}, {0, 5}, {3, 5}, {4, 12}, {20, 1}}) {
    layer.spec.exact = exact;
    const LayerResult result = layer.run();
    for (size_t m = 0; m < 2; ++m) {
      QuantizedCache cache;
      cache.exact = exact;
      HeadQuantizers& heads = cache.keys.emplace_back();
      for (int h = 0; h < kKvHeads; ++h) heads.push_back(job_quantizer(layer.spec, {0, m, 2, h}, 0));
      std::vector<float> held = layer.k;
      const std::vector<const QuantizedCache*> caches(4, &cache);
      requantize({0, kTokens, 16, caches, held.data(), nullptr});
      std::vector<double> kl(4), output(4);
      for (int h = 0; h < kKvHeads; ++h) {
        std::vector<float> k_hat;
        for (int t = 0; t < kTokens; ++t)
          for (int j = 0; j < kDim; ++j) k_hat.push_back(held[size_t((t * kKvHeads + h) * kDim + j)]);
        HeadActivations head{layer.q.data() + h * 3 * kDim, layer.k.data() + h * kDim,
                             layer.v.data() + h * kValueDim};
        head.q_stride = kHeads * kDim, head.k_stride = kKvHeads * kDim, head.v_stride = kKvHeads * kValueDim;
        head.group = 3, head.v_dim = kValueDim, head.n_tokens = kTokens;
        const std::vector<Restored> restored = {{k_hat.data(), nullptr}};
        const auto sums =
            AttentionError(real_attention(*layer.spec.model, 0), 16, exact.recent).score(head, restored)[0];
        for (size_t c = 0; c < 4; ++c) kl[c] += sums[c].kl.sum, output[c] += sums[c].output.sum;
      }
      const MethodResult& row = result.results[m];
      CHECK(row.mae == plain.results[m].mae);
      for (size_t c = 0; c < 4; ++c) {
        CHECK(row.metrics[1].chunks[c].sum == Approx(kl[c]).epsilon(1e-13).margin(1e-300));
        CHECK(row.metrics[2].chunks[c].sum == Approx(output[c]).epsilon(1e-13).margin(1e-300));
      }
      CHECK(row.metrics[1].value < plain.results[m].metrics[1].value);
      CHECK(row.bytes_per_token == Approx((3 * 16 * cache.key_bytes(16) + 2 * cache.key_bytes(2)) / kTokens));
      if (exact.count(16) == 16) CHECK(row.metrics[1].value == 0);
    }
  }
}

TEST_CASE("a model's metric is the mean over its layers") {
  Layer layer;
  layer.spec.metrics = {Metric::mae, Metric::kl};
  layer.spec.budgets = budgets({2});
  const LayerResult first = layer.run();
  for (float& x : layer.q) x *= 2;
  const LayerResult second = layer.run();
  const SummaryRow row = summarize({first, second}).at(0);
  CHECK(row.metrics[0].value == row.mae);
  CHECK(row.metrics[1].value ==
        Approx((first.results[0].metrics[1].value + second.results[0].metrics[1].value) / 2).epsilon(1e-13));
  CHECK(row.metrics[1].low < row.metrics[1].value);
  CHECK(row.metrics[1].value < row.metrics[1].high);
}

TEST_CASE("at equal bytes: against tq-mse on the line through its budgets, and beyond") {
  // tq-mse has 8, 4 and 1 at 2, 3 and 4 bits
  auto row = [](const char* method, double bits, double mae) {
    MethodResult r;
    r.method = method;
    r.bits = std::floor(bits);
    r.mae = mae;
    r.effective_bits = bits;
    return r;
  };
  LayerResult layer{0,
                    {row("tq-mse", 2, 8), row("a", 2.5, 4), row("tq-mse", 3, 4), row("a", 3.5, 1),
                     row("tq-mse", 4, 1), row("a", 4.5, 0.25)}};
  std::vector<SummaryRow> rows = summarize({layer});
  CHECK(std::isnan(rows[0].ratio_at_equal_bytes));
  CHECK(rows[1].ratio_at_equal_bytes == Approx(4 / std::sqrt(32.0)));
  CHECK(rows[3].ratio_at_equal_bytes == Approx(1 / 2.0));
  CHECK(rows[5].ratio_at_equal_bytes == Approx(0.25 / 0.5));
  layer.results = {layer.results[0], layer.results[1]};
  CHECK(std::isnan(summarize({layer})[1].ratio_at_equal_bytes));  // one size is no line
}

TEST_CASE("attention on the sink is measured with metrics at real positions, and only then") {
  Layer layer;
  layer.spec.budgets = budgets({2});
  CHECK(std::isnan(layer.run().sink_attention));
  layer.spec.metrics = {Metric::mae, Metric::kl};
  const double plain = layer.run().sink_attention;
  CHECK(plain > 0);
  CHECK(plain < 1);
  for (float& x : layer.q) x = 0;  // then every key gets the same
  double sum = 0;
  int n = 0;
  for (int first = 0; first < kTokens; first += 16)
    for (int t = kSinkPositions; t < std::min(16, kTokens - first); ++t, ++n)
      sum += double(kSinkPositions) / (t + 1);
  CHECK(layer.run().sink_attention == Approx(sum / n).epsilon(1e-6));
}

TEST_CASE("one window has values without intervals") {
  Layer layer;
  layer.spec.metrics = {Metric::mae, Metric::weighted};
  layer.spec.chunk = 0;
  const LayerResult result = layer.run();
  CHECK(result.results[0].metrics[1].value > 0);
  CHECK(std::isnan(result.results[0].metrics[1].low));
}

TEST_CASE("output error without values is a defect") {
  Layer layer;
  layer.spec.metrics = {Metric::mae, Metric::output};
  CHECK_THROWS_AS(evaluate_layer(layer.spec, 0, layer.q.data(), layer.k.data(), kTokens), std::logic_error);
}

TEST_CASE("norms beyond fp16 are counted by method; an error that overflows is named") {
  Layer layer;
  CHECK(layer.run().results[0].clipped == 0);
  std::vector<float>& k = layer.k;
  for (int t = 10; t < 13; ++t)  // three keys of KV head 1
    for (int j = 0; j < kDim; ++j) k[size_t((t * kKvHeads + 1) * kDim + j)] *= 1e6f;
  const LayerResult result = layer.run();
  CHECK(result.results[0].clipped == 3);
  CHECK(result.results[1].clipped == 6);  // between two and three bits: both
  for (float& x : layer.q) x *= 1e34f;
  try {
    layer.run();
    FAIL("an infinite error was a result");
  } catch (const Error& e) {
    CHECK(e.code == Exit::nonfinite);
    CHECK_THAT(e.what(), ContainsSubstring("layer 0: KV head 1: logit error of tq-mse at 2 bits: "));
  }
}
