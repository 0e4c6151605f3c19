// partial_rotary_factor per model type and RoPE type, against transformers (make_partial_rotary.py).
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "catch.h"
#include "config_samples.h"

using namespace blockgtq;
using namespace blockgtq::test;

TEST_CASE("rope: partial_rotary_factor as transformers takes it", "[rope]") {
  const Json all =
      read_json(std::filesystem::path(BLOCKGTQ_SOURCE_DIR) / "tests/hf/partial_rotary.json", size_t(1) << 20);
  int run = 0, fail = 0, ignored = 0;
  for (const Json& c : all["cases"]) {
    const std::string text = c["config"].dump();
    INFO(text);
    if (c["inv_freq"].is_null()) {
      ++fail;
      CHECK_THAT(error_of(text),
                 ContainsSubstring("partial_rotary_factor: 0.5 is not supported for this model "
                                   "beside rope_type "));
      continue;
    }
    ++run;
    const std::vector<double> expected = c["inv_freq"];
    const Config config = parse(text);
    CHECK(config.rope.rotary_dim == int(2 * expected.size()));
    const RopeFrequencies got = rope_frequencies(config.rope, config.max_position, 8);
    REQUIRE(got.inv_freq.size() == expected.size());
    // float32 arithmetic: a power whose exponent, up to ln 10000 = 9.2, is rounded to 6e-8 of itself, and a
    // few roundings more; printed with 7 digits
    for (size_t i = 0; i < expected.size(); ++i)
      CHECK(std::abs(got.inv_freq[i] - expected[i]) <= 1.5e-6 * expected[i]);
    const bool whole = config.model_type != "glm";
    ignored += whole;
    CHECK(config.remarks.size() == size_t(whole));
    if (whole)
      CHECK_THAT(config.remarks[0],
                 ContainsSubstring("partial_rotary_factor: 0.5 is ignored, as transformers "
                                   "does for this model: all 32 coordinates"));
  }
  CHECK(run == 21);  // 6 kinds of whole heads under default RoPE, glm under all 5 with 3 shares
  CHECK(ignored == 6);
  CHECK(fail == 24);
}
