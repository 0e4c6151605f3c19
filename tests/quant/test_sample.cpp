#include "catch.h"
#include "quant/stats.h"

using namespace blockgtq;

TEST_CASE("a sample is a GiB of a model's keys and values, 4096 to 16,384 tokens, of any number of parts") {
  AttentionShape shape;
  const auto tokens = [&](int layers, int heads, int dim) {
    shape.n_layers = layers, shape.n_kv_heads = heads, shape.layout = {dim, dim}, shape.v_dim = dim;
    return sample_tokens(shape);
  };
  CHECK(tokens(30, 3, 64) == 16384);                        // SmolLM2-135M: 2^28 / 11,520 = 23,301
  CHECK(tokens(32, 8, 128) == 4096);                        // Llama-3.1-8B: 2^28 / 65,536 = 4096
  CHECK(tokens(80, 8, 128) == 4096);                        // Llama-3.1-70B: 1638
  CHECK(tokens(36, 2, 128) == (int64_t(1) << 28) / 18432);  // Qwen2.5-3B: 14,563
  for (const int64_t chunks : {7, 64, 1000}) {
    int64_t sum = 0;
    for (int64_t c = 0; c < chunks; ++c) {
      const Sample sample = sample_of(shape, c, 4096, chunks);
      CHECK(std::abs(sample.n - 14563 / chunks) <= 1);
      CHECK(sample.n * sample.step <= 4096);
      sum += sample.n;
    }
    CHECK(sum == 14563);
  }
  CHECK(sample_of(shape, 3, 5, 7).n == 5);  // no more than there are
}
