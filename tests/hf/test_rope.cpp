#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "catch.h"
#include "config_samples.h"
#include "hf/config.h"

using namespace blockgtq;
using namespace blockgtq::test;
namespace fs = std::filesystem;

namespace {

/// The setup of transformers' own tests: head dimension 128, base 1e4, 2048 positions.
RopeConfig plain(RopeType type, double factor) {
  RopeConfig r;
  r.type = type;
  r.rotary_dim = 128;
  r.theta = 1e4;
  r.factor = factor;
  r.original_max_position = 2048;
  return r;
}

/// Expected values are printed with `digits` significant digits: half a unit of the last, and the float32
/// arithmetic that made them (1e-6).
void check_close(const std::vector<double>& got, const std::vector<double>& expected, size_t first,
                 int digits) {
  const double tolerance = 5 * std::pow(10.0, -digits) + 1e-6;
  REQUIRE(first + expected.size() <= got.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    INFO("block " << first + i);
    CHECK(std::abs(got[first + i] - expected[i]) <= tolerance * expected[i]);
  }
}

RopeFrequencies of_config(const char* text) {
  const Config c = parse_config(parse_json(text, "config.json"), "config.json");
  return rope_frequencies(c.rope, c.max_position, 256);
}

}  // namespace

// transformers, tests/utils/test_modeling_rope_utils.py, 5 digits
TEST_CASE("rope: transformers' known answers", "[rope]") {
  const RopeFrequencies standard = rope_frequencies(plain(RopeType::standard, 1), 2048, 4096);
  REQUIRE(standard.inv_freq.size() == 64);
  CHECK(standard.inv_freq[0] == 1.0);
  CHECK(standard.attention_factor == 1.0);
  check_close(standard.inv_freq, {1.0, 0.86596, 0.74989, 0.64938, 0.56234}, 0, 5);
  check_close(standard.inv_freq, {0.00015399, 0.00013335, 0.00011548}, 61, 5);

  const RopeFrequencies linear = rope_frequencies(plain(RopeType::linear, 20), 2048, 4096);
  for (size_t i = 0; i < 64; ++i) CHECK(linear.inv_freq[i] == standard.inv_freq[i] / 20);

  for (int64_t length : {1, 256, 2048})
    CHECK(rope_frequencies(plain(RopeType::dynamic, 10), 2048, length).inv_freq == standard.inv_freq);
  CHECK(rope_frequencies(plain(RopeType::dynamic, 10), 2048, 2049).inv_freq != standard.inv_freq);
  const RopeFrequencies dynamic = rope_frequencies(plain(RopeType::dynamic, 10), 2048, 16384);
  check_close(dynamic.inv_freq, {1.0, 0.80931, 0.65498, 0.53008, 0.429, 0.3472, 0.28099, 0.22741}, 0, 5);
  check_close(dynamic.inv_freq, {4.6845e-06, 3.7912e-06, 3.0683e-06, 2.4832e-06, 2.0097e-06, 1.6265e-06}, 58,
              5);

  RopeConfig llama3 = plain(RopeType::llama3, 10);
  llama3.low_freq_factor = 1;
  llama3.high_freq_factor = 4;
  const RopeFrequencies l = rope_frequencies(llama3, 2048, 4096);
  CHECK(l.attention_factor == 1.0);
  check_close(l.inv_freq, {0.013335, 0.010730, 0.0077785, 0.0056009}, 30, 5);        // kept, then mixed
  check_close(l.inv_freq, {0.00057363, 0.00034539, 0.00027384, 0.00023714}, 39, 5);  // mixed, then divided
  CHECK(l.inv_freq[63] == standard.inv_freq[63] / 10);

  const RopeFrequencies yarn = rope_frequencies(plain(RopeType::yarn, 10), 2048, 4096);
  CHECK(yarn.attention_factor == Approx(0.1 * std::log(10.0) + 1).epsilon(1e-15));
  check_close(yarn.inv_freq, {0.1, 0.083479, 0.06959, 0.057925}, 16, 5);
  check_close(yarn.inv_freq, {0.00087713, 0.0006281, 0.00043007, 0.00027384, 0.00023714}, 38, 5);
  CHECK(yarn.inv_freq[63] == Approx(standard.inv_freq[63] / 10).epsilon(1e-15));

  CHECK(unscaled_inv_freq(plain(RopeType::yarn, 10)) == standard.inv_freq);
}

// transformers 5.23 in float32: ROPE_INIT_FUNCTIONS[...](AutoConfig.from_pretrained(folder)), 8 digits
TEST_CASE("rope: published models", "[rope]") {
  const RopeFrequencies llama = of_config(kLlama31);
  check_close(llama.inv_freq, {1.0, 0.81461722, 0.66360128}, 0, 8);
  check_close(llama.inv_freq,
              {0.0032114461, 0.0021665706, 0.0013718937, 0.00085675146, 0.00052484602, 0.00031269365,
               0.00017850779, 9.5562122e-05, 7.7846555e-05},
              28, 8);
  check_close(llama.inv_freq, {3.7673226e-07, 3.0689259e-07}, 62, 8);

  const RopeFrequencies deepseek = of_config(kDeepSeekV2);
  REQUIRE(deepseek.inv_freq.size() == 32);
  CHECK(deepseek.attention_factor == 1.0);  // mscale and mscale_all_dim are equal
  check_close(deepseek.inv_freq,
              {0.1, 0.074989416, 0.056234129, 0.039006926, 0.026879361, 0.018378144, 0.012447956,
               0.0083345091, 0.0055000004, 0.0035619973, 0.0022493652, 0.0013705135, 0.00079056941,
               0.00041499041, 0.00017782794, 3.3338034e-05, 2.4999999e-05},
              8, 8);

  const RopeFrequencies glm = of_config(kChatGlm);
  REQUIRE(glm.inv_freq.size() == 32);
  CHECK(glm.inv_freq[16] == Approx(1 / std::sqrt(5e6)).epsilon(1e-14));
  CHECK(of_config(kGlm).inv_freq[16] == Approx(0.01).epsilon(1e-14));
}

TEST_CASE("rope: yarn's options", "[rope]") {
  RopeConfig r = plain(RopeType::yarn, 40);
  // Both scales: their ratio. One of them, or a zero: as if there were none.
  r.mscale = 0.5;
  r.mscale_all_dim = 2;
  const auto m = [](double s) { return 0.1 * s * std::log(40.0) + 1; };
  CHECK(rope_frequencies(r, 2048, 1).attention_factor == Approx(m(0.5) / m(2)).epsilon(1e-15));
  r.mscale_all_dim = 0;
  CHECK(rope_frequencies(r, 2048, 1).attention_factor == Approx(m(1)).epsilon(1e-15));
  r.mscale_all_dim.reset();
  CHECK(rope_frequencies(r, 2048, 1).attention_factor == Approx(m(1)).epsilon(1e-15));
  r.attention_factor = 1.25;
  CHECK(rope_frequencies(r, 2048, 1).attention_factor == 1.25);
  r.attention_factor.reset();
  r.factor = 1;
  CHECK(rope_frequencies(r, 2048, 1).attention_factor == 1.0);
  const std::vector<double> base = unscaled_inv_freq(r), one = rope_frequencies(r, 2048, 1).inv_freq;
  for (size_t i = 0; i < base.size(); ++i) CHECK(one[i] == Approx(base[i]).epsilon(1e-15));

  // Without truncation the ramp starts at block 128 ln(2048 / 64 pi) / (2 ln 1e4) = 16.12.. instead of 16,
  // and ends at 128 ln(2048 / 2 pi) / (2 ln 1e4) = 40.20.. instead of 41.
  RopeConfig smooth = plain(RopeType::yarn, 10);
  smooth.truncate = false;
  const double first = 128 * std::log(2048 / (64 * M_PI)) / (2 * std::log(1e4));
  const double last = 128 * std::log(2048 / (2 * M_PI)) / (2 * std::log(1e4));
  CHECK(std::floor(first) == 16);
  CHECK(std::ceil(last) == 41);
  const double ramp = (20 - first) / (last - first), f = std::pow(1e4, -40.0 / 128);
  CHECK(rope_frequencies(smooth, 2048, 1).inv_freq[20] ==
        Approx(f * (1 - ramp) + f / 10 * ramp).epsilon(1e-14));
  CHECK(rope_frequencies(smooth, 2048, 1).inv_freq[40] >
        rope_frequencies(plain(RopeType::yarn, 10), 2048, 1).inv_freq[63]);

  // A trained length so short that both ends of the ramp meet at block 0.
  RopeConfig tiny = plain(RopeType::yarn, 2);
  tiny.original_max_position = 6;
  const std::vector<double> met = rope_frequencies(tiny, 2048, 1).inv_freq;
  CHECK(met[0] == 1.0);
  CHECK(met[1] == Approx(unscaled_inv_freq(tiny)[1] / 2).epsilon(1e-15));
}

// golden/make_rope.py: float32, every block
TEST_CASE("rope: every block as transformers computes it", "[rope]") {
  const Json known = read_json(fs::path(BLOCKGTQ_SOURCE_DIR) / "tests/golden/rope.json", 1 << 20);
  RopeConfig llama3 = plain(RopeType::llama3, 10);
  llama3.low_freq_factor = 1;
  llama3.high_freq_factor = 4;
  const std::pair<const char*, RopeConfig> cases[] = {{"default", plain(RopeType::standard, 1)},
                                                      {"linear", plain(RopeType::linear, 10)},
                                                      {"dynamic", plain(RopeType::dynamic, 10)},
                                                      {"llama3", llama3},
                                                      {"yarn", plain(RopeType::yarn, 10)}};
  REQUIRE(known.size() == std::size(cases));
  for (const auto& [name, config] : cases) {
    INFO(name);
    const RopeFrequencies got = rope_frequencies(config, 2048, 16384);
    const auto expected = known[name]["inv_freq"].get<std::vector<double>>();
    REQUIRE(expected.size() == got.inv_freq.size());
    check_close(got.inv_freq, expected, 0, 8);
    CHECK(got.attention_factor == Approx(known[name]["attention_factor"].get<double>()).epsilon(1e-15));
  }
}
