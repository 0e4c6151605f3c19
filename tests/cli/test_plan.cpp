// What plan says of memory, checked by hand and against what caches and files take.
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "cli/command.h"

namespace blockgtq {
namespace {

Json plan(std::vector<std::string> args) {
  args.insert(args.begin(), "plan");
  args.insert(args.end(), {"--json", "-", "--tokens", "256"});
  return Json::parse(good(args).out);
}

}  // namespace

TEST_CASE("plan: bytes of a known shape by hand") {
  // Llama-3.1-8B: 32 layers, 8 KV heads of 128. fp16: 32 * 8 * 2 * 128 * 2 bytes a position.
  const Json json = plan({"--shape", "llama-3.1-8b", "--kv", "fp16,K3V3,K2V4", "--context", "64,128k",
                          "--batch", "1,8", "--memory", "80G", "--bandwidth", "4.8TB"});
  CHECK(json.at("schema") == "blockgtq.plan/1");
  CHECK(json.at("rows").size() == 12);
  const int64_t fp16 = 32 * 8 * 2 * 128 * 2, k3v3 = 32 * 8 * 100, weights = 2 * 8030261248;  // as published
  for (const Json& row : json.at("rows")) {
    CAPTURE(row.dump());
    const int64_t n = row.at("context"), batch = row.at("batch"), each = row.at("kv") == "fp16" ? fp16 : k3v3;
    CHECK(row.at("weight_bytes") == weights);
    CHECK(row.at("cache_bytes") == each * n * batch);
    const int64_t angles = 4 * 128 * n;
    CHECK(row.at("total_bytes") == weights + each * n * batch + angles);
    CHECK(row.at("fits") == (row.at("total_bytes").get<int64_t>() <= 80000000000));
    CHECK(row.at("longest_context") == (80000000000 - weights) / (each * batch + 4 * 128));
    // All but the embedding is read, and the pages of all sequences.
    const double read = double(weights) - 2.0 * 128256 * 4096 - 2.0 * (65 * 4096) + double(each * n * batch);
    CHECK(row.at("floor_milliseconds").get<double>() == Approx(1e3 * read / 4.8e12).epsilon(1e-6));
  }
}

TEST_CASE("plan: sink and recent positions are whole pages of fp16 beside packed ones") {
  const Json json = plan({"--shape", "qwen2.5-3b", "--kv", "K3V3", "--context", "4096", "--sink", "64",
                          "--recent", "100", "--memory", "80G"});
  // 4096 - 100 leaves 62 whole pages, one of them the sink's; behind them lie 128 positions.
  const int64_t exact = 36 * 2 * 2 * 128 * 2 * 64, packed = 36 * 2 * 100 * 64;
  CHECK(json.at("rows").at(0).at("cache_bytes") == 61 * packed + 3 * exact);
}

TEST_CASE("plan: what generate holds, and what files take") {
  TempFolder dir;
  const std::string m = model("tiny-llama");
  const auto held = [&](const std::vector<std::string>& more) {
    std::vector<std::string> args = {"generate", "-m", m,        "-p", "The sea",  "-n",
                                     "60",       "-q", "--json", "-",  "--device", "cpu"};
    args.insert(args.end(), more.begin(), more.end());
    return Json::parse(good(args).out).at("cache_bytes").get<int64_t>();
  };
  good({"calibrate", "-m", m, "-f", text("calibration"), "--tokens", "256", "--bits", "3", "-o",
        dir / "map.h5", "-q"});
  good({"dump", "-m", m, "-f", text("calibration"), "--tokens", "256", "-o", dir / "acts.h5", "-q"});
  good({"energy", dir / "acts.h5", "-o", dir / "stats.h5", "-q"});
  const Json json = plan({"-m", m, "--kv", "fp16,K3V3", "--context", "64"});
  CHECK(json.at("rows").at(0).at("cache_bytes") == held({"--kv", "fp16"}));
  CHECK(json.at("rows").at(1).at("cache_bytes") == held({"--kv", dir / "map.h5", "--k-method", "tq-mse"}));
  // "at most 3.2 MB of a dump in float32, 4.1 MB of statistics", before they are compressed.
  double dump = 0, stats = 0;
  REQUIRE(std::sscanf(json.at("disk").get<std::string>().c_str(),
                      "at most %lf MB of a dump in float32, %lf MB", &dump, &stats) == 2);
  const double dumped = 1e-6 * double(std::filesystem::file_size(dir / "acts.h5")),
               summed = 1e-6 * double(std::filesystem::file_size(dir / "stats.h5"));
  CAPTURE(dump, dumped, stats, summed);
  CHECK((dumped < 1.05 * dump && dumped > 0.5 * dump));
  CHECK((summed < 1.05 * stats && summed > 0.3 * stats));
  // The same of the config alone, but for what the weights' file says.
  std::filesystem::create_directory(dir / "config");
  std::filesystem::copy_file(m + "/config.json", dir / "config/config.json");
  Json alone = plan({"-m", dir / "config", "--kv", "fp16,K3V3", "--context", "64"});
  CHECK(alone.at("rows") == json.at("rows"));
  CHECK(alone.at("calibrate_memory") == json.at("calibrate_memory"));
}

TEST_CASE("plan and inspect say the same of a run") {
  const std::string m = model("tiny-qwen3-moe");
  const Json sheet = Json::parse(good({"inspect", m, "--tokens", "256", "--json", "-"}).out),
             json = plan({"-m", m});
  CHECK(json.at("calibrate_memory") == sheet.at("memory"));
  const auto operations =
      [](const Json& time) {  // "about 0.1 s a pass on this CPU (0.0123 TFLOP at 50 GFLOP/s)"
        const std::string t = time.get<std::string>();
        return t.substr(t.find('('), t.find(" TFLOP") - t.find('('));
      };
  CHECK(operations(json.at("calibrate_time")) == operations(sheet.at("time")));
}

TEST_CASE("plan: what it refuses") {
  const std::pair<std::vector<std::string>, const char*> mistakes[] = {
      {{}, "one of --shape and -m is expected"},
      {{"--shape", "qwen2.5-3b", "-m", "x"}, "one of --shape and -m is expected"},
      {{"--shape", "magic"}, "--shape: 'magic' is none of qwen2.5-3b"},
      {{"--shape", "qwen2.5-3b", "--kv", "K3"}, "--kv: K3: whole bits of keys and of values are expected"},
      {{"--shape", "qwen2.5-3b", "--kv", "K2.5V3"}, "whole bits"},
      {{"--shape", "qwen2.5-3b", "--memory", "80Gb"}, "--memory: '80Gb' is not a size"},
      {{"--shape", "qwen2.5-3b", "--context", "0"}, "--context: 0"},
      {{"--shape", "qwen2.5-3b", "--sink", "4"}, "--sink: 4: whole pages"},
  };
  for (const auto& [more, says] : mistakes) {
    std::vector<std::string> args = {"plan"};
    args.insert(args.end(), more.begin(), more.end());
    const Outcome o = blockgtq(args);
    CAPTURE(o.err);
    CHECK(o.code == 2);
    CHECK(error_lines(o) == 1);
    CHECK_THAT(o.err, ContainsSubstring(says));
    CHECK(o.out.empty());
  }
  CHECK(blockgtq({"plan", "-m", "/nowhere"}).code == 3);
}

}  // namespace blockgtq
