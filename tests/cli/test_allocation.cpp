// What a budget counts and how it goes round: the options of allocate and calibrate.
#include <nlohmann/json.hpp>

#include "cli/command.h"

namespace blockgtq {
namespace {

std::vector<std::string> joined(std::vector<std::string> a, const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

}  // namespace

TEST_CASE("allocate: costs, restrictions, budgets in bytes, stability") {
  TempFolder dir;
  const std::string stats = dir / "s.h5";
  good({"energy", "-m", model("tiny-qwen2-hd64"), "-f", text("calibration"), "--tokens", "512", "--chunk",
        "64", "-q", "-o", stats});
  int n_maps = 0;
  auto allocate = [&](const std::vector<std::string>& options) {
    const std::string map = dir / ("m" + std::to_string(n_maps++) + ".h5");
    return nlohmann::json::parse(
        good(joined({"allocate", stats, "--resamples", "3", "--json", "-", "-o", map}, options)).out);
  };
  // 4 layers, 2 heads, D = 64, 32 blocks: uniform 3 bits are 24 bytes a head.
  const auto published = allocate({});
  CHECK(published.at("schema") == "blockgtq.allocate/1");
  CHECK(published.at("budgets")[0].at("counted_bytes_per_token") == 8 * 24);
  CHECK(published.at("budgets")[0].at("bytes_per_token").get<double>() > 8 * 24);
  REQUIRE(published.at("budgets").size() == 2);  // of the published score, and of the product's
  CHECK(published.at("budgets")[1].at("score") == "product");
  int heads = 0;
  for (const int n : published.at("budgets")[0].at("heads_by_groups")) heads += n;
  CHECK(heads == 8);
  const auto& stability = published.at("budgets")[0].at("stability");
  CHECK(stability.at("changed_between_halves").size() == 4);
  CHECK(stability.at("resampled_same_per_block").size() == 4 * 2 * 32);

  // What is counted is what is stored; 208 bytes are uniform 3 bits and a norm.
  for (const std::string allocator : {"greedy", "exact", "mixing"}) {
    const auto packed = allocate({"--allocator", allocator, "--budget-bytes-per-token", "208"});
    CHECK(packed.at("cost") == "packed");
    const auto& budget = packed.at("budgets")[0];
    CHECK(budget.at("bits") == 3.25);
    CHECK(budget.at("bytes_per_token") == budget.at("counted_bytes_per_token"));
    CHECK(budget.at("bytes_per_token").get<double>() <= 208);
    CHECK(budget.at("bytes_per_token").get<double>() > 190);
  }
  const auto memory = allocate({"--budget-memory", "208MB", "--context", "1000000"});
  CHECK(memory.at("budgets")[0].at("bits") == 3.25);
  const auto restricted =
      allocate({"--allocator", "exact", "--max-groups", "2", "--allowed-bits", "2,3,4,8", "--bits", "3,4"});
  for (const auto& budget : restricted.at("budgets"))
    for (size_t g = 2; g < 8; ++g) CHECK(budget.at("heads_by_groups")[g] == 0);
  const auto shared = allocate({"--share", "model", "--equal", "layer", "--cost", "page", "--bits", "3.25"});
  CHECK(shared.at("budgets")[0].at("counted_bytes_per_token").get<double>() <= 208 + 1e-9);

  const std::string table = good({"allocate", stats, "-o", dir / "table.h5", "--bits", "2,3"}).out;
  CHECK_THAT(table, ContainsSubstring("K bytes/token"));
  CHECK_THAT(good({"allocate", stats, "-o", dir / "v.h5", "-v", "--resamples", "2"}).err,
             ContainsSubstring("change between the halves"));
  // The published map does not depend on how it is asked for.
  good({"allocate", stats, "-o", dir / "a.h5"});
  good({"allocate", stats, "-o", dir / "b.h5", "--allocator", "greedy", "--cost", "nominal", "-t", "1"});
  CHECK(same_bytes(dir / "a.h5", dir / "b.h5"));
  good({"allocate", stats, "-o", dir / "c.h5", "--allocator", "mixing", "--cost", "packed", "-t", "1"});
  good({"allocate", stats, "-o", dir / "d.h5", "--allocator", "mixing", "--cost", "packed", "-t", "2"});
  CHECK(same_bytes(dir / "c.h5", dir / "d.h5"));

  struct Mistake {
    std::vector<std::string> options;
    const char* says;
  };
  const std::vector<Mistake> mistakes = {
      {{"--cost", "free"}, "free"},
      {{"--allocator", "best"}, "best"},
      {{"--norms", "none"}, "none"},
      {{"--share", "world"}, "world"},
      {{"--equal", "world"}, "world"},
      {{"--max-groups", "0"}, "max-groups"},
      {{"--max-groups", "2"}, "greedy"},
      {{"--allowed-bits", "2,4"}, "greedy"},
      {{"--allocator", "exact", "--allowed-bits", "0,2"}, "'0'"},
      {{"--allocator", "exact", "--allowed-bits", "2,9"}, "'9'"},
      {{"--allocator", "exact", "--allowed-bits", "2,"}, "''"},
      {{"--allocator", "exact", "--allowed-bits", "2", "--min-bits", "3"}, "none left"},
      {{"--min-bits", "0"}, "min-bits"},
      {{"--min-bits", "5", "--max-bits", "4"}, "5 to 4"},
      {{"--bits", "3", "--budget-bytes-per-token", "208"}, "bits"},
      {{"--budget-bytes-per-token", "10"}, "1.25 to 8"},
      {{"--budget-bytes-per-token", "513"}, "to 8 allowed"},
      {{"--budget-bytes-per-token", "x"}, "x"},
      {{"--budget-memory", "8GiB"}, "context"},
      {{"--context", "1000"}, "budget-memory"},
      {{"--budget-memory", "much", "--context", "1000"}, "much"},
      {{"--bits", "1", "--cost", "packed"}, "norms counted"},
      {{"--bits", "1.2", "--cost", "page", "--norms", "key"}, "1.25 to 8"},
      {{"--resamples", "-1"}, "resamples"},
      {{"--group-blocks", "8"}, "greedy"},
      {{"--allocator", "exact", "--group-blocks", "7"}, "multiple of 7"},
  };
  for (const Mistake& m : mistakes) {
    const Outcome outcome = blockgtq(joined({"allocate", stats, "-o", dir / "bad.h5"}, m.options));
    CAPTURE(outcome.err, m.options.back());
    CHECK(outcome.code == 2);
    CHECK(error_lines(outcome) == 1);
    CHECK_THAT(outcome.err, ContainsSubstring(m.says));
    CHECK_FALSE(std::filesystem::exists(dir / "bad.h5"));
  }
}

}  // namespace blockgtq
