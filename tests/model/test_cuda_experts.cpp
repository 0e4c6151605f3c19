#ifdef BLOCKGTQ_CUDA
#include "catch.h"
#include "model/cuda_experts.h"

using namespace blockgtq;

TEST_CASE("tokens come together where their expert is", "[moe]") {
  MoeConfig moe;
  moe.n_experts = 4;
  moe.n_per_token = 2;
  const int32_t expert[] = {2, 0, 0, 3, 2, 3};  // three tokens
  int32_t row_token[6] = {}, position[6] = {};
  const std::vector<int64_t> begin = group_by_expert(moe, expert, 3, row_token, position);
  CHECK(begin == std::vector<int64_t>{0, 2, 2, 4, 6});
  CHECK(std::vector<int32_t>(row_token, row_token + 6) == std::vector<int32_t>{0, 1, 0, 2, 1, 2});
  CHECK(std::vector<int32_t>(position, position + 6) == std::vector<int32_t>{2, 0, 1, 4, 3, 5});
}
#endif
