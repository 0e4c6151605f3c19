// Attention over pages against double precision over what the pages hold.
#include "capi/served.h"
#include "worse.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

/// On the CPU float32 through a few hundred sums, on a GPU what tests/kernels/sequences.h derives; and the
/// rounding of `out`.
double bound_of(const std::string& device, blockgtq_dtype out) {
  return (device == "cpu" ? 1e-5 : 2e-3) + (out == BLOCKGTQ_F32    ? 0x1p-24
                                            : out == BLOCKGTQ_BF16 ? 0x1p-8
                                                                   : 0x1p-11);
}

Reference reference_of(const Served& served) {
  return {served.description.n_heads, served.description.n_kv_heads, served.description.head_dim,
          served.of_layer.scale};
}

/// Positions [0, n) of sequence b in an array (B, all, width).
std::vector<float> first_of(const std::vector<float>& x, int b, int64_t all, int64_t width, int64_t n) {
  const auto at = x.begin() + b * all * width;
  return {at, at + n * width};
}

/// Fills pages of all sequences with random tokens.
void fill(Served& served, int64_t tokens) {
  const int64_t n = served.batch * tokens * served.width();
  served.encode(served.normal(n), served.normal(n), tokens, std::vector<int32_t>(size_t(served.batch), 0));
}

double decode_error(Served& served, const std::vector<int32_t>& lengths, blockgtq_dtype type,
                    const Reference& how, const blockgtq_rule& rule = {}, uint32_t flags = 0) {
  const int64_t width = served.q_width();
  const auto q = rounded(served.normal(served.batch * width), type);
  const auto got = served.decode(q, lengths, type, rule, flags);
  const auto held = served.read(0, served.capacity);
  double worst = 0;
  for (int b = 0; b < served.batch; ++b) {
    const int64_t n = lengths[size_t(b)];
    const std::vector<float> out(got.begin() + b * width, got.begin() + (b + 1) * width);
    if (n == 0) {
      for (const float x : out) REQUIRE(x == 0);
      continue;
    }
    const auto want =
        attend(how, 1, &q[size_t(b * width)], first_of(held.k, b, served.capacity, served.width(), n),
               first_of(held.v, b, served.capacity, served.width(), n));
    worst = worse(worst, distance(out, want));
  }
  return worst;
}

double prefill_error(Served& served, const std::vector<int32_t>& lengths, int64_t tokens, blockgtq_dtype type,
                     const Reference& how, const blockgtq_rule& rule = {}) {
  const int64_t width = tokens * served.q_width(), kv_width = tokens * served.width();
  const auto q = rounded(served.normal(served.batch * width), type),
             k = rounded(served.normal(served.batch * kv_width), type),
             v = rounded(served.normal(served.batch * kv_width), type);
  const auto got = served.prefill(q, k, v, tokens, lengths, type, rule);
  const auto held = served.read(0, served.capacity);
  double worst = 0;
  for (int b = 0; b < served.batch; ++b) {
    const auto all = [&](const std::vector<float>& before, const std::vector<float>& own) {
      std::vector<float> out = first_of(before, b, served.capacity, served.width(), lengths[size_t(b)]);
      out.insert(out.end(), own.begin() + b * kv_width, own.begin() + (b + 1) * kv_width);
      return out;
    };
    const auto want = attend(how, tokens, &q[size_t(b * width)], all(held.k, k), all(held.v, v));
    worst = worse(worst, distance({got.begin() + b * width, got.begin() + (b + 1) * width}, want));
  }
  return worst;
}

const blockgtq_dtype kTypes[] = {BLOCKGTQ_F16, BLOCKGTQ_BF16, BLOCKGTQ_F32};

}  // namespace

TEST_CASE("decoding over pages", "[capi]") {
  for (const std::string& device : devices())
    for (const Kind& kind : kinds()) {
      Served served(kind, device, 3, 200);
      fill(served, 200);
      for (const blockgtq_dtype type : kTypes) {
        INFO(device << ": " << text(kind) << ", type " << type);
        const double bound = bound_of(device, type);
        CHECK(decode_error(served, {0, 1, 200}, type, reference_of(served)) < bound);
        CHECK(decode_error(served, {64, 65, 130}, type, reference_of(served), {}, BLOCKGTQ_JUST_ENCODED) <
              bound);
      }
    }
}

TEST_CASE("a chunk behind pages", "[capi]") {
  for (const std::string& device : devices())
    for (const Kind& kind : kinds()) {
      Served served(kind, device, 2, 150);
      fill(served, 150);
      for (const blockgtq_dtype type : kTypes) {
        INFO(device << ": " << text(kind) << ", type " << type);
        const double bound = bound_of(device, type);
        CHECK(prefill_error(served, {0, 0}, 70, type, reference_of(served)) < bound);
        CHECK(prefill_error(served, {130, 64}, 33, type, reference_of(served)) < bound);
        CHECK(prefill_error(served, {1, 150}, 1, type, reference_of(served)) < bound);
      }
    }
}

TEST_CASE("scale, softcap, window and sinks", "[capi]") {
  for (const std::string& device : devices())
    for (const Kind& kind : kinds()) {
      if (device != "cpu" && kind.code) continue;  // refused, see test_misuse.cpp
      INFO(device << ": " << text(kind));
      Served served(kind, device, 2, 200);
      fill(served, 200);
      std::vector<float> sinks;
      for (int h = 0; h < served.description.n_heads; ++h) sinks.push_back(float(h) / 2 - 1);
      const auto on_device = served.place.memory(sinks),
                 positions = served.place.memory(std::vector<int32_t>{199, 99});
      Reference how = reference_of(served);
      blockgtq_rule rule{};
      how.scale = rule.scale = 0.3;
      how.softcap = rule.softcap = 5;
      how.window = rule.window = 70;
      how.sinks = sinks.data();
      rule.sinks = on_device->as<float>();
      rule.positions = positions->as<int32_t>();
      const double bound = bound_of(device, BLOCKGTQ_F16);
      CHECK(decode_error(served, {200, 100}, BLOCKGTQ_F16, how, rule) < bound);
      CHECK(prefill_error(served, {150, 80}, 20, BLOCKGTQ_F16, how, rule) < bound);
    }
}

TEST_CASE("a step leaves pages alone", "[capi]") {
  for (const std::string& device : devices()) {
    Served served(kinds()[2], device, 2, 100);
    fill(served, 100);
    const auto bytes = [&] {
      return served.place.get<uint8_t>(*served.page_memory,
                                       size_t(served.n_pages * served.of_layer.page_pitch));
    };
    const auto before = bytes();
    served.decode(served.normal(2 * served.q_width()), {100, 17});
    const auto chunk = [&](int64_t width) { return served.normal(2 * 5 * width); };
    served.prefill(chunk(served.q_width()), chunk(served.width()), chunk(served.width()), 5, {100, 17});
    CHECK(bytes() == before);
  }
}
