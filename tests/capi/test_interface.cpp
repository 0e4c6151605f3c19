// What the library says of itself and of a cache; structures that grow; its symbols.
#include <fmt/format.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <thread>

#include "capi/served.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

/// False, with a word of it, where a test has not what it needs.
bool has(bool there, const char* what) {
  if (!there) WARN("skipped: no " << what);
  return there;
}

std::string output_of(const std::string& command) {
  std::string out;
  FILE* const pipe = popen((command + " 2>&1").c_str(), "r");
  REQUIRE(pipe);
  std::array<char, 256> line{};
  while (std::fgets(line.data(), int(line.size()), pipe)) out += line.data();
  const int status = pclose(pipe);
  INFO(command << ": " << out);
  REQUIRE(status == 0);
  return out;
}

}  // namespace

TEST_CASE("version and description", "[capi]") {
  CHECK(blockgtq_interface() == BLOCKGTQ_INTERFACE);
  CHECK_THAT(blockgtq_version(), ContainsSubstring("blockgtq "));
  const Served packed({true, 128, "K3V3", "tq-mse", "tq-mse"}, "cpu", 1, 64);
  const blockgtq_description& d = packed.description;
  CHECK(d.packed == 1);
  CHECK(d.device == -1);
  CHECK(d.n_layers == kLayers);
  CHECK(d.n_heads == kHeads);
  CHECK(d.n_kv_heads == kKvHeads);
  CHECK(d.head_dim == 128);
  CHECK(d.block_size == 64);
  CHECK(d.keys_rotated == 1);
  CHECK(d.rotary_dim == 128);
  CHECK(d.interleaved == 0);
  CHECK(d.key_bits == 3);
  CHECK(d.exact_page_bytes == 64 * 2 * 128 * 2 * kKvHeads);
  CHECK(d.bytes_per_token == 100 * kKvHeads * kLayers);  // lib/cache/README.md
  CHECK(d.largest_page_bytes == packed.of_layer.page_bytes);
  CHECK(d.table_bytes == 0);
  CHECK(std::string(d.pair) == "K3V3");
  CHECK(std::string(d.key_method) == "tq-mse");
  CHECK(std::string(d.code) == "scalar");
  CHECK(packed.of_layer.scale == Approx(1 / std::sqrt(128.0)));
  CHECK(packed.of_layer.window == 0);
  std::vector<double> frequencies(64);
  REQUIRE(blockgtq_frequencies(packed.cache, 1, frequencies.data(), 64) == BLOCKGTQ_OK);
  CHECK(frequencies == sample_map(128).map().shape.ropes[0].inv_freq);
  const Served exact(kinds()[0], "cpu", 1, 64);
  CHECK(exact.description.packed == 0);
  CHECK(std::string(exact.description.code) == "fp16");
  CHECK(exact.of_layer.page_bytes == exact.description.exact_page_bytes);
}

TEST_CASE("structures grow", "[capi]") {
  const Served served(kinds()[0], "cpu", 1, 64);
  struct {
    blockgtq_description known;
    char later[16];
  } wide;
  std::memset(&wide, 0x55, sizeof wide);
  wide.known.struct_size = sizeof wide;
  REQUIRE(blockgtq_describe(served.cache, &wide.known) ==
          BLOCKGTQ_OK);  // what it does not know stays as it is
  CHECK(wide.known.n_layers == kLayers);
  CHECK(wide.known.struct_size == sizeof wide);
  CHECK(wide.later[0] == 0x55);
  struct {
    blockgtq_options known;
    char later[16];
  } newer{options(kinds()[0], "cpu", 64), {}};
  newer.known.struct_size = sizeof newer;
  blockgtq_cache* cache = nullptr;
  REQUIRE(blockgtq_open(&newer.known, &cache) == BLOCKGTQ_OK);
  blockgtq_close(cache);
  newer.later[3] = 1;
  CHECK(blockgtq_open(&newer.known, &cache) == BLOCKGTQ_USAGE);
  CHECK(cache == nullptr);
  CHECK_THAT(blockgtq_last_error(), ContainsSubstring("older than its caller"));
  newer.known.struct_size = 8;
  CHECK(blockgtq_open(&newer.known, &cache) == BLOCKGTQ_USAGE);
  CHECK_THAT(blockgtq_last_error(), ContainsSubstring("struct_size: 8"));
}

TEST_CASE("the text of an error belongs to its thread", "[capi]") {
  CHECK(blockgtq_open(nullptr, nullptr) == BLOCKGTQ_USAGE);
  const std::string here = blockgtq_last_error();
  std::thread([] {
    CHECK(std::string(blockgtq_last_error()).empty());
    CHECK(blockgtq_describe(nullptr, nullptr) == BLOCKGTQ_USAGE);
  }).join();
  CHECK(blockgtq_last_error() == here);
  CHECK(here == "blockgtq_open: cache: a null pointer");
}

TEST_CASE("many threads share a cache", "[capi]") {
  const Kind& kind = kinds()[2];
  Served served(kind, "cpu", 1, 100);
  served.encode(served.normal(100 * served.width()), served.normal(100 * served.width()), 100, {0});
  const int64_t n = served.q_width();
  const Array q = served.array(served.normal(n), BLOCKGTQ_F32);
  const auto length = served.place.memory(std::vector<int32_t>{100});
  blockgtq_decode_args args{};
  args.struct_size = sizeof args;
  args.layer = served.layer;
  args.batch = 1;
  args.pages = served.pages(length.get(), nullptr, 100);
  args.q = q.tensor;
  std::vector<Array> outs;
  for (int i = 0; i < 5; ++i) outs.push_back(served.array(n, BLOCKGTQ_F32));
  std::array<blockgtq_status, 5> answers{};
  const auto attend = [&](size_t i) {
    blockgtq_decode_args mine = args;
    mine.out = outs[i].tensor;
    answers[i] = blockgtq_decode(served.cache, &mine);
  };
  attend(4);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < 4; ++i) threads.emplace_back(attend, i);
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < 5; ++i) {
    CHECK(answers[i] == BLOCKGTQ_OK);
    CHECK(served.get(outs[i], n) == served.get(outs[4], n));
  }
}

TEST_CASE("nothing but blockgtq_* is shown, under its version", "[capi]") {
  if (!has(std::system("command -v nm >/dev/null") == 0, "nm")) return;
  if (!has(std::filesystem::exists(BLOCKGTQ_LIBRARY), "library where it was built")) return;
  const std::string symbols = output_of("nm -D --defined-only --with-symbol-versions " BLOCKGTQ_LIBRARY);
  size_t n = 0;
  for (size_t at = 0, end; (end = symbols.find('\n', at)) != std::string::npos; at = end + 1) {
    const std::string line = symbols.substr(at, end - at);
    INFO(line);
    if (line.ends_with(" A BLOCKGTQ_1")) continue;  // the version itself
    CHECK(line.find(" T blockgtq_") != std::string::npos);
    CHECK(line.ends_with("@@BLOCKGTQ_1"));
    ++n;
  }
  CHECK(n == 19);
}

TEST_CASE("the example in C", "[capi]") {
  if (!has(std::filesystem::exists(BLOCKGTQ_EXAMPLE), "example where it was built")) return;
  for (const std::string& map : {std::string(), sample_map(64).path()}) {
    const std::string out = output_of(fmt::format("{} {}", BLOCKGTQ_EXAMPLE, map));
    INFO(out);
    CHECK_THAT(out, ContainsSubstring(map.empty() ? "fp16" : "K2V2"));
    CHECK_THAT(out, ContainsSubstring("attention of token 99"));
  }
}
