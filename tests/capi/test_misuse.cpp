// Every wrong use is answered by a code and a text, and nothing is written.
#include <cstring>
#include <functional>
#include <limits>
#include <optional>

#include "capi/served.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

template <class Args>
struct Misuse {
  std::string text;  // contained in the answer
  std::function<void(Args&)> spoil;
  blockgtq_status status = BLOCKGTQ_USAGE;
  std::optional<bool> on_gpu = {};  // asked there alone, or on the CPU alone
};

/// Calls `call` with arguments that are right but for what every case spoils. `written` must stay as it is.
template <class Args>
void try_all(const Served& served, const Args& right,
             blockgtq_status (*call)(const blockgtq_cache*, const Args*),
             const std::vector<Misuse<Args>>& cases, const Memory& written, size_t bytes) {
  const auto before = served.place.get<uint8_t>(written, bytes);
  for (const auto& [text, spoil, status, on_gpu] : cases) {
    if (on_gpu && *on_gpu != served.place.on_gpu()) continue;
    Args args = right;
    spoil(args);
    INFO(served.place.device() << ": " << text);
    CHECK(call(served.cache, &args) == status);
    CHECK_THAT(blockgtq_last_error(), ContainsSubstring(text));
    const bool untouched = served.place.get<uint8_t>(written, bytes) == before;  // too long to print
    CHECK(untouched);
  }
  CHECK(call(nullptr, &right) == BLOCKGTQ_USAGE);
  CHECK(call(served.cache, nullptr) == BLOCKGTQ_USAGE);
  const blockgtq_status status = call(served.cache, &right);
  INFO(blockgtq_last_error());
  CHECK(status == BLOCKGTQ_OK);
  const bool has_run = served.place.get<uint8_t>(written, bytes) != before;
  CHECK(has_run);
}

/// What can be wrong with the array that `of` gives.
template <class Args>
std::vector<Misuse<Args>> array_cases(const std::string& name, blockgtq_tensor Args::*of) {
  return {
      {name + ".data is a null pointer", [=](Args& a) { (a.*of).data = nullptr; }},
      {name + ".data is not aligned", [=](Args& a) { (a.*of).data = static_cast<char*>((a.*of).data) + 1; }},
      {name + ".dtype: 0", [=](Args& a) { (a.*of).dtype = 0; }},
      {name + ".dtype: 4", [=](Args& a) { (a.*of).dtype = 4; }},
      {name + ": strides", [=](Args& a) { (a.*of).stride_head = -64; }}};
}

template <class Args>
std::vector<Misuse<Args>> common_cases() {
  return {{"struct_size: 0", [](Args& a) { a.struct_size = 0; }},
          {"struct_size: 4294967295", [](Args& a) { a.struct_size = UINT32_MAX; }},
          {"layer: -1", [](Args& a) { a.layer = -1; }},
          {"layer: 2, allowed: 0 to 1", [](Args& a) { a.layer = 2; }},
          {"batch: 0", [](Args& a) { a.batch = 0; }},
          {"batch: 65536", [](Args& a) { a.batch = 65536; }},
          {"stream: the CPU has none", [](Args& a) { a.stream = &a; }, BLOCKGTQ_USAGE, false},
          {"pages.n_pages: 0", [](Args& a) { a.pages.n_pages = 0; }},
          {"pages.data is a null pointer", [](Args& a) { a.pages.data = nullptr; }},
          {"pages.data is not aligned to 16 bytes",
           [](Args& a) { a.pages.data = static_cast<char*>(a.pages.data) + 8; }},
          {"pages.block_table is a null pointer", [](Args& a) { a.pages.block_table = nullptr; }},
          {"pages.stride: 0", [](Args& a) { a.pages.stride = 0; }},
          {"pages.longest: -1", [](Args& a) { a.pages.longest = -1; }},
          {"pages.longest: 201, allowed: 0 to 200", [](Args& a) { a.pages.longest = 201; }},
          {"out of pages: 200 positions, the block table has 2 columns, which are 128",
           [](Args& a) {
             a.pages.longest = 200;
             a.pages.stride = 2;
           },
           BLOCKGTQ_PAGES},
          {"host memory, memory of cuda:0 is expected",
           [](Args& a) {
             static int32_t words[4096] = {};
             a.pages.block_table = words;
           },
           BLOCKGTQ_USAGE, true}};
}

template <class Args>
void append(std::vector<Misuse<Args>>& to, const std::vector<Misuse<Args>>& more) {
  to.insert(to.end(), more.begin(), more.end());
}

const Kind kKind = {true, 64, "K3V3"};

std::vector<float> zeros(int64_t n) {
  return std::vector<float>(static_cast<size_t>(n), 0.0f);
}

}  // namespace

TEST_CASE("wrong uses of encode", "[capi][misuse]") {
  for (const std::string& device : devices()) {
    Served served(kKind, device, 2, 200);
    const int64_t n = 2 * 10 * served.width();
    const Array k = served.array(served.normal(n), BLOCKGTQ_F32),
                v = served.array(served.normal(n), BLOCKGTQ_F32);
    const auto starts = served.place.memory(std::vector<int32_t>{0, 60});
    blockgtq_encode_args right = served.encode_args(k, v, 10, *starts);
    const auto scratch = served.give_scratch(right, blockgtq_encode_scratch);
    using Args = blockgtq_encode_args;
    auto cases = common_cases<Args>();
    append(cases, array_cases("k", &Args::k));
    append(cases, array_cases("v", &Args::v));
    const int32_t wrong_starts[] = {0, 191}, negative[] = {-1, 0};
    std::vector<int32_t> wrong_table = served.table;
    wrong_table[size_t(served.columns + 1)] = int32_t(served.n_pages);
    append<Args>(cases,
                 {{"tokens: 0", [](Args& a) { a.tokens = 0; }},
                  {"tokens: ", [](Args& a) { a.tokens = INT64_MAX; }},
                  {"pages and exact: neither has data", [](Args& a) { a.pages = {}; }},
                  {"pages.starts is a null pointer", [](Args& a) { a.pages.starts = nullptr; }},
                  {"not aligned to 4 bytes",
                   [](Args& a) {
                     a.pages.starts =
                         reinterpret_cast<const int32_t*>(reinterpret_cast<const char*>(a.pages.starts) + 2);
                   }},
                  {"pages.longest: 9, and 10 tokens are written", [](Args& a) { a.pages.longest = 9; }},
                  {"starts[1]: 191, allowed: 0 to 190", [&](Args& a) { a.pages.starts = wrong_starts; },
                   BLOCKGTQ_USAGE, false},
                  {"starts[0]: -1", [&](Args& a) { a.pages.starts = negative; }, BLOCKGTQ_USAGE, false},
                  {"pages.block_table[1][1]: page 11, there are 11",
                   [&](Args& a) { a.pages.block_table = wrong_table.data(); }, BLOCKGTQ_PAGES, false},
                  {"scratch_bytes: 0", [](Args& a) { a.scratch_bytes = 0; }, BLOCKGTQ_USAGE, true},
                  {"scratch: a null pointer", [](Args& a) { a.scratch = nullptr; }, BLOCKGTQ_USAGE, true},
                  {"k: host memory", [&](Args& a) { a.k.data = wrong_table.data(); }, BLOCKGTQ_USAGE, true}});
    try_all(served, right, blockgtq_encode, cases, *served.page_memory,
            size_t(served.n_pages * served.of_layer.page_pitch));
  }
}

TEST_CASE("wrong uses of decode", "[capi][misuse]") {
  for (const std::string& device : devices()) {
    Served served(kKind, device, 2, 200);
    const int64_t n = 2 * served.q_width();
    served.encode(zeros(2 * 100 * served.width()), served.normal(2 * 100 * served.width()), 100, {0, 0});
    const Array q = served.array(served.normal(n), BLOCKGTQ_F16), out = served.array(n, BLOCKGTQ_BF16);
    const auto lengths = served.place.memory(std::vector<int32_t>{70, 100});
    using Args = blockgtq_decode_args;
    Args right{};
    right.struct_size = sizeof right;
    right.layer = served.layer;
    right.batch = 2;
    right.pages = served.pages(lengths.get(), nullptr, 100);
    right.q = q.tensor;
    right.out = out.tensor;
    right.stream = served.place.stream();
    const auto scratch = served.give_scratch(right, blockgtq_decode_scratch);
    auto cases = common_cases<Args>();
    append(cases, array_cases("q", &Args::q));
    append(cases, array_cases("out", &Args::out));
    const int32_t wrong[] = {70, 101}, negative[] = {-5, 0};
    append<Args>(
        cases,
        {{"flags: 0x2", [](Args& a) { a.flags = 2; }},
         {"first_page: -1", [](Args& a) { a.first_page = -1; }},
         {"first_page: 4, allowed: 0 to 3", [](Args& a) { a.first_page = 4; }},
         {"pages.lengths is a null pointer", [](Args& a) { a.pages.lengths = nullptr; }},
         {"rule.scale: nan", [](Args& a) { a.rule.scale = std::numeric_limits<double>::quiet_NaN(); }},
         {"rule.scale: -1", [](Args& a) { a.rule.scale = -1; }},
         {"rule.softcap: inf", [](Args& a) { a.rule.softcap = std::numeric_limits<double>::infinity(); }},
         {"out: strides 512, 512, 32: elements would share memory",
          [](Args& a) { a.out.stride_head = 32, a.out.stride_sequence = 512; }},
         {"exact.data is a null pointer", [](Args& a) { a.exact.n_pages = 1, a.exact.stride = 1; }},
         {"pages.lengths[1]: 101, allowed: 0 to 100", [&](Args& a) { a.pages.lengths = wrong; },
          BLOCKGTQ_USAGE, false},
         {"pages.lengths[0]: -5", [&](Args& a) { a.pages.lengths = negative; }, BLOCKGTQ_USAGE, false},
         {"rule.positions: null", [](Args& a) { a.rule.window = 10; }, BLOCKGTQ_USAGE, true},
         {"scratch_bytes: 1, ", [](Args& a) { a.scratch_bytes = 1; }, BLOCKGTQ_USAGE, true},
         {"not aligned to 128 bytes", [](Args& a) { a.scratch = static_cast<char*>(a.scratch) + 16; },
          BLOCKGTQ_USAGE, true},
         {"q: host memory", [&](Args& a) { a.q.data = &served; }, BLOCKGTQ_USAGE, true}});
    try_all(served, right, blockgtq_decode, cases, *out.memory, size_t(n) * 2);
  }
}

TEST_CASE("wrong uses of prefill", "[capi][misuse]") {
  for (const std::string& device : devices()) {
    Served served(kKind, device, 2, 200);
    const int64_t n = 2 * 5 * served.q_width(), m = 2 * 5 * served.width();
    served.encode(served.normal(2 * 100 * served.width()), served.normal(2 * 100 * served.width()), 100,
                  {0, 0});
    const Array q = served.array(served.normal(n), BLOCKGTQ_F32),
                k = served.array(served.normal(m), BLOCKGTQ_F32),
                v = served.array(served.normal(m), BLOCKGTQ_F16), out = served.array(n, BLOCKGTQ_F32);
    const auto lengths = served.place.memory(std::vector<int32_t>{70, 100});
    using Args = blockgtq_prefill_args;
    Args right{};
    right.struct_size = sizeof right;
    right.layer = served.layer;
    right.batch = 2;
    right.tokens = 5;
    right.pages = served.pages(lengths.get(), nullptr, 100);
    right.q = q.tensor;
    right.k = k.tensor;
    right.v = v.tensor;
    right.out = out.tensor;
    right.stream = served.place.stream();
    const auto scratch = served.give_scratch(right, blockgtq_prefill_scratch);
    auto cases = common_cases<Args>();
    append(cases, array_cases("q", &Args::q));
    append(cases, array_cases("k", &Args::k));
    append(cases, array_cases("v", &Args::v));
    append(cases, array_cases("out", &Args::out));
    append<Args>(cases, {{"tokens: 0", [](Args& a) { a.tokens = 0; }},
                         {"flags: 0x1", [](Args& a) { a.flags = 1; }},
                         {"pages.lengths is a null pointer", [](Args& a) { a.pages.lengths = nullptr; }},
                         {"scratch_bytes: 1, ", [](Args& a) { a.scratch_bytes = 1; }, BLOCKGTQ_USAGE, true}});
    try_all(served, right, blockgtq_prefill, cases, *out.memory, size_t(n) * 4);
  }
}

TEST_CASE("wrong uses of split and read", "[capi][misuse]") {
  const Served served(kKind, "cpu", 1, 200);
  int32_t words[6][8] = {};
  blockgtq_split_args right{};
  right.struct_size = sizeof right;
  right.batch = 1;
  right.sink = 64;
  right.recent = 64;
  right.held = words[0];
  right.exact_pages = words[1];
  right.packed_lengths = words[2];
  right.exact_lengths = words[3];
  right.exact_starts = words[4];
  right.exact_table = words[5];
  const auto refuse = [&](const char* text, auto spoil) {
    blockgtq_split_args args = right;
    spoil(args);
    INFO(text);
    CHECK(blockgtq_split(served.cache, &args) == BLOCKGTQ_USAGE);
    CHECK_THAT(blockgtq_last_error(), ContainsSubstring(text));
  };
  refuse("sink, recent: 4, 64", [](auto& a) { a.sink = 4; });
  refuse("sink, recent: 64, -1", [](auto& a) { a.recent = -1; });
  refuse("batch: 0", [](auto& a) { a.batch = 0; });
  refuse("held: a null pointer", [](auto& a) { a.held = nullptr; });
  refuse("exact_table: a null pointer", [](auto& a) { a.exact_table = nullptr; });
  words[0][0] = 200;
  refuse("held[0]: 200, allowed: -1 to 199", [](auto&) {});
  words[0][0] = 10;
  CHECK(blockgtq_split(served.cache, &right) == BLOCKGTQ_OK);
  const Served exact(kinds()[0], "cpu", 1, 64);
  CHECK(blockgtq_split(exact.cache, &right) == BLOCKGTQ_USAGE);

  const int64_t n = 10 * served.width();
  const Array k = served.array(n, BLOCKGTQ_F32), v = served.array(n, BLOCKGTQ_F32);
  blockgtq_read_args read{};
  read.struct_size = sizeof read;
  read.batch = 1;
  read.first = 190;
  read.tokens = 10;
  read.pages = served.pages(nullptr, nullptr, 0);
  read.k = k.tensor;
  read.v = v.tensor;
  CHECK(blockgtq_read(served.cache, &read) == BLOCKGTQ_OK);
  read.first = 250;
  CHECK(blockgtq_read(served.cache, &read) == BLOCKGTQ_PAGES);
  CHECK_THAT(blockgtq_last_error(), ContainsSubstring("out of pages: 260 positions"));
  read.first = -1;
  CHECK(blockgtq_read(served.cache, &read) == BLOCKGTQ_USAGE);
}

TEST_CASE("wrong uses of open", "[capi][misuse]") {
  using Args = blockgtq_options;
  const auto refuse = [](const Kind& kind, blockgtq_status status, const char* text, auto spoil) {
    Args args = options(kind, "cpu", 100);
    spoil(args);
    INFO(text);
    blockgtq_cache* cache = reinterpret_cast<blockgtq_cache*>(1);
    CHECK(blockgtq_open(&args, &cache) == status);
    CHECK(cache == nullptr);
    CHECK_THAT(blockgtq_last_error(), ContainsSubstring(text));
  };
  const Kind& exact = kinds()[0];
  refuse(kKind, BLOCKGTQ_INPUT, "the map is of another model: n_layers: 2 in the map, 3 expected",
         [](Args& a) { a.n_layers = 3; });
  refuse(kKind, BLOCKGTQ_INPUT, "head_dim: 64 in the map, 128 expected", [](Args& a) { a.head_dim = 128; });
  refuse(kKind, BLOCKGTQ_INPUT, "n_kv_heads: 2 in the map, 8 expected", [](Args& a) { a.n_kv_heads = 8; });
  refuse(kKind, BLOCKGTQ_INPUT, "/nowhere/map.h5", [](Args& a) { a.map = "/nowhere/map.h5"; });
  refuse(kKind, BLOCKGTQ_INPUT, "/dev/null", [](Args& a) { a.map = "/dev/null"; });
  refuse(kKind, BLOCKGTQ_INPUT, "no budget of 5 bits", [](Args& a) { a.pair = "K5V5"; });
  refuse(kKind, BLOCKGTQ_USAGE, "pair: 'K3V9'", [](Args& a) { a.pair = "K3V9"; });
  refuse(kKind, BLOCKGTQ_USAGE, "pair: 'K3': pages hold keys and values", [](Args& a) { a.pair = "K3"; });
  refuse(kKind, BLOCKGTQ_USAGE, "key_method: 'nothing' is unknown",
         [](Args& a) { a.key_method = "nothing"; });
  refuse(kKind, BLOCKGTQ_USAGE, "value_method: 'block-gtq' is unknown",
         [](Args& a) { a.value_method = "block-gtq"; });
  refuse(kKind, BLOCKGTQ_INPUT, "pages have no place for codes that are not groups",
         [](Args& a) { a.key_method = "kivi"; });
  refuse(kKind, BLOCKGTQ_INPUT, "the map holds no choice", [](Args& a) { a.key_method = "chosen"; });
  refuse(kKind, BLOCKGTQ_USAGE, "code: 'tree'", [](Args& a) { a.code = "tree"; });
  refuse(kKind, BLOCKGTQ_INPUT, "pages have no place for these trellis codes", [](Args& a) {
    a.code = "trellis";
    a.key_method = "block-gtq";
  });
  refuse(kKind, BLOCKGTQ_USAGE, "codebook", [](Args& a) { a.codebook = "paper"; });
  refuse(kKind, BLOCKGTQ_USAGE, "device: 'tpu'", [](Args& a) { a.device = "tpu"; });
  refuse(kKind, BLOCKGTQ_USAGE, "device: 'cuda:-1'", [](Args& a) { a.device = "cuda:-1"; });
  refuse(kKind, BLOCKGTQ_DEVICE, "", [](Args& a) { a.device = "cuda:1000"; });
  refuse(kKind, BLOCKGTQ_USAGE, "longest: 0", [](Args& a) { a.longest = 0; });
  refuse(kKind, BLOCKGTQ_USAGE, "longest: 2147483648", [](Args& a) { a.longest = int64_t(1) << 31; });
  refuse(kKind, BLOCKGTQ_USAGE, "flags: 0x8", [](Args& a) { a.flags = 8; });
  refuse(kKind, BLOCKGTQ_USAGE, "first_kv_head, kv_heads: 1, 2, of 2 heads", [](Args& a) {
    a.first_kv_head = 1;
    a.kv_heads = 2;
  });
  refuse(kKind, BLOCKGTQ_USAGE, "page_pitch: 64, pages of layer 0", [](Args& a) { a.page_pitch = 64; });
  refuse(kKind, BLOCKGTQ_USAGE, "page_pitch: 8", [](Args& a) { a.page_pitch = 8; });
  refuse(exact, BLOCKGTQ_USAGE, "without a map pages hold fp16", [](Args& a) { a.pair = "K3V3"; });
  refuse(exact, BLOCKGTQ_USAGE, "n_layers: 0", [](Args& a) { a.n_layers = 0; });
  refuse(exact, BLOCKGTQ_USAGE, "n_heads: 7", [](Args& a) { a.n_heads = 7; });
  refuse(exact, BLOCKGTQ_USAGE, "head_dim: 72", [](Args& a) { a.head_dim = 72; });
  refuse(exact, BLOCKGTQ_USAGE, "fp16 pages have 32768 bytes", [](Args& a) { a.page_pitch = 65536; });
  for (const std::string& device : devices()) {
    if (device == "cpu") continue;
    refuse(exact, BLOCKGTQ_USAGE, "head dimension 48", [&](Args& a) {
      a.head_dim = 48;
      a.device = device.c_str();
    });
  }
}

TEST_CASE("attention that a GPU has not over trellis codes is refused", "[capi][misuse]") {
  for (const std::string& device : devices()) {
    if (device == "cpu") continue;
    Served served({true, 64, "K2V2", nullptr, nullptr, "trellis"}, device, 1, 64);
    const Array q = served.array(served.normal(served.q_width()), BLOCKGTQ_F16);
    const auto length = served.place.memory(std::vector<int32_t>{10});
    blockgtq_decode_args args{};
    args.struct_size = sizeof args;
    args.batch = 1;
    args.pages = served.pages(length.get(), nullptr, 10);
    args.q = args.out = q.tensor;
    args.rule.window = 5;
    args.rule.positions = length->as<int32_t>();
    CHECK(blockgtq_decode(served.cache, &args) == BLOCKGTQ_USAGE);
    CHECK_THAT(blockgtq_last_error(), ContainsSubstring("over trellis codes has no kernel"));
  }
}

namespace {

/// Puts extreme numbers into every word of the arguments behind struct_size, one after the other.
template <class Args>
void try_words(const Served& served, const Args& right,
               blockgtq_status (*ask)(const blockgtq_cache*, const Args*, int64_t*)) {
  for (size_t word = 1; word < sizeof(Args) / 4; ++word)
    for (const int64_t value : {int64_t(0), int64_t(-1), int64_t(INT32_MAX), int64_t(INT32_MIN), INT64_MAX}) {
      Args args = right;
      const size_t bytes = word + 1 < sizeof(Args) / 4 && word % 2 == 0 ? 8 : 4;
      std::memcpy(reinterpret_cast<char*>(&args) + 4 * word, &value, bytes);
      int64_t needed = -1;
      const blockgtq_status status = ask(served.cache, &args, &needed);
      INFO(served.place.device() << ": word " << word << ", value " << value << ": "
                                 << blockgtq_last_error());
      CHECK((status == BLOCKGTQ_OK || status == BLOCKGTQ_USAGE || status == BLOCKGTQ_PAGES));
      CHECK(needed >= 0);
    }
}

}  // namespace

TEST_CASE("any numbers are answered", "[capi][misuse]") {
  for (const std::string& device : devices())
    for (const Kind& kind : {kinds()[0], kKind, kinds()[6]}) {
      const Served served(kind, device, 2, 200);
      blockgtq_pages pages{};
      pages.n_pages = served.n_pages;
      pages.stride = served.columns;
      pages.longest = 200;
      const blockgtq_tensor array{nullptr, BLOCKGTQ_BF16, 0, 0, 0, 0};
      blockgtq_encode_args encode{};
      encode.struct_size = sizeof encode;
      encode.batch = 2;
      encode.tokens = 10;
      encode.pages = pages;
      encode.k = encode.v = array;
      try_words(served, encode, blockgtq_encode_scratch);
      blockgtq_decode_args decode{};
      decode.struct_size = sizeof decode;
      decode.batch = 2;
      decode.pages = pages;
      decode.q = decode.out = array;
      try_words(served, decode, blockgtq_decode_scratch);
      blockgtq_prefill_args prefill{};
      prefill.struct_size = sizeof prefill;
      prefill.batch = 2;
      prefill.tokens = 10;
      prefill.pages = pages;
      prefill.q = prefill.k = prefill.v = prefill.out = array;
      try_words(served, prefill, blockgtq_prefill_scratch);
    }
}
