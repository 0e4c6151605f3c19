// Sequences whose first and last positions stay in fp16, step by step and with a prompt before the steps.
#include <optional>

#include "capi/served.h"
#include "worse.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

/// One sequence, its packed pages (Served) and its fp16 pages.
class Windowed {
 public:
  Windowed(const Kind& kind, const std::string& device, int64_t sink, int64_t recent, int64_t capacity)
      : served(kind, device, 1, capacity),
        sink_(sink),
        recent_(recent),
        columns_(blockgtq_exact_columns(sink, recent)),
        sinks_(sink / kPage),
        ring_(columns_ - sinks_ - 1) {
    std::vector<int32_t> row(static_cast<size_t>(columns_));
    for (int64_t i = 0; i < columns_; ++i) row[size_t(i)] = int32_t((i + 2) % columns_);
    row_ = served.place.memory(row);
    in_order_ = served.place.memory(row.size() * 4);
    pages_ = served.place.memory(size_t(columns_ * served.description.exact_page_bytes));
    for (auto* words : {&held_, &packed_lengths_, &exact_lengths_, &exact_starts_})
      *words = served.place.memory(4);
  }

  /// What attention reads of a sequence that holds `held` tokens and one more.
  void split(int32_t held) {
    held_->put(&held, 4);
    blockgtq_split_args args{};
    args.struct_size = sizeof args;
    args.batch = 1;
    args.sink = sink_;
    args.recent = recent_;
    args.held = held_->as<int32_t>();
    args.exact_pages = row_->as<int32_t>();
    args.packed_lengths = packed_lengths_->as<int32_t>();
    args.exact_lengths = exact_lengths_->as<int32_t>();
    args.exact_starts = exact_starts_->as<int32_t>();
    args.exact_table = in_order_->as<int32_t>();
    args.stream = served.place.stream();
    REQUIRE(blockgtq_split(served.cache, &args) == BLOCKGTQ_OK);
    CHECK(word(*packed_lengths_) == blockgtq_packed_end(sink_, recent_, held + 1));
    CHECK(word(*exact_lengths_) == blockgtq_exact_length(sink_, recent_, held + 1));
  }

  /// Tokens of a prompt behind `first` positions, as blockgtq.h says. k, v (n, H, D).
  void encode_chunk(int64_t first, const std::vector<float>& k, const std::vector<float>& v) {
    const int64_t width = served.width(), n = int64_t(k.size()) / width;
    put(k, v, 0, n, int32_t(first), {});
    if (first < sink_) put(k, v, 0, std::min(n, sink_ - first), {}, int32_t(first));
    if (recent_ == 0) return;
    const int64_t begin = std::max(first, blockgtq_packed_end(sink_, recent_, first + n));
    const int64_t from = blockgtq_packed_end(sink_, recent_, first), positions = ring_ * kPage;
    for (int64_t t = begin; t < first + n;) {  // the ring may begin again
      const int64_t at = (t - from) % positions, end = std::min(first + n, t + positions - at);
      put(k, v, t - first, end - t, {}, int32_t(sink_ + at));
      t = end;
    }
  }

  void step(int32_t held, const std::vector<float>& k, const std::vector<float>& v) {
    split(held);
    put(k, v, 0, 1, held, word(*exact_starts_));
  }

  std::vector<float> attend(const std::vector<float>& q) {
    const Array queries = served.array(q, BLOCKGTQ_F16), out = served.array(served.q_width(), BLOCKGTQ_F16);
    blockgtq_decode_args args{};
    args.struct_size = sizeof args;
    args.flags = BLOCKGTQ_JUST_ENCODED;
    args.layer = served.layer;
    args.batch = 1;
    args.first_page = int32_t(sinks_);
    args.pages = served.pages(packed_lengths_.get(), nullptr, served.capacity);
    args.exact = exact_pages(exact_lengths_.get(), nullptr);
    args.exact_first = sink_;
    args.q = queries.tensor;
    args.out = out.tensor;
    args.stream = served.place.stream();
    const auto scratch = served.give_scratch(args, blockgtq_decode_scratch);
    const blockgtq_status status = blockgtq_decode(served.cache, &args);
    INFO(blockgtq_last_error());
    REQUIRE(status == BLOCKGTQ_OK);
    return served.get(out, served.q_width());
  }

  std::vector<float> prefill(const std::vector<float>& q, const std::vector<float>& k,
                             const std::vector<float>& v) {
    const int64_t n = int64_t(k.size()) / served.width();
    const Array queries = served.array(q, BLOCKGTQ_F16), keys = served.array(k, BLOCKGTQ_F16),
                values = served.array(v, BLOCKGTQ_F16),
                out = served.array(n * served.q_width(), BLOCKGTQ_F16);
    blockgtq_prefill_args args{};
    args.struct_size = sizeof args;
    args.layer = served.layer;
    args.batch = 1;
    args.first_page = int32_t(sinks_);
    args.tokens = n;
    args.pages = served.pages(packed_lengths_.get(), nullptr, served.capacity);
    args.exact = exact_pages(exact_lengths_.get(), nullptr);
    args.exact_first = sink_;
    args.q = queries.tensor;
    args.k = keys.tensor;
    args.v = values.tensor;
    args.out = out.tensor;
    args.stream = served.place.stream();
    const auto scratch = served.give_scratch(args, blockgtq_prefill_scratch);
    const blockgtq_status status = blockgtq_prefill(served.cache, &args);
    INFO(blockgtq_last_error());
    REQUIRE(status == BLOCKGTQ_OK);
    return served.get(out, n * served.q_width());
  }

  /// What a sequence of n tokens holds: k and v (n, H, D) where positions are exact, else what pages hold.
  Served::Held held(const std::vector<float>& k, const std::vector<float>& v, int64_t n) const {
    const int64_t width = served.width(), end = blockgtq_packed_end(sink_, recent_, n);
    Served::Held out{{k.begin(), k.begin() + n * width}, {v.begin(), v.begin() + n * width}};
    if (const int64_t packed = std::min(end, n) - sink_; packed > 0) {
      const auto codes = served.read(sink_, packed);
      std::copy(codes.k.begin(), codes.k.end(), out.k.begin() + sink_ * width);
      std::copy(codes.v.begin(), codes.v.end(), out.v.begin() + sink_ * width);
    }
    return out;
  }

  Served served;

 private:
  int32_t word(const Memory& memory) const { return served.place.get<int32_t>(memory, 1)[0]; }

  blockgtq_pages exact_pages(const Memory* lengths, const Memory* starts) const {
    blockgtq_pages p{};
    p.data = pages_->data();
    p.n_pages = columns_;
    p.block_table = in_order_->as<int32_t>();
    p.stride = columns_;
    p.lengths = lengths ? lengths->as<int32_t>() : nullptr;
    p.starts = starts ? starts->as<int32_t>() : nullptr;
    p.longest = lengths ? sink_ + (recent_ > 0 ? recent_ + kPage - 1 : 0) : columns_ * kPage;
    return p;
  }

  /// Tokens [first, first + n) of the arrays, at `packed` in packed pages and at `exact` among the exact
  /// positions, where these are said.
  void put(const std::vector<float>& k, const std::vector<float>& v, int64_t first, int64_t n,
           std::optional<int32_t> packed, std::optional<int32_t> exact) {
    const int64_t width = served.width();
    const auto part = [&](const std::vector<float>& x) {
      return served.array({x.begin() + first * width, x.begin() + (first + n) * width}, BLOCKGTQ_F16);
    };
    const Array keys = part(k), values = part(v);
    const auto at = served.place.memory(std::vector<int32_t>{packed.value_or(0)}),
               exact_at = served.place.memory(std::vector<int32_t>{exact.value_or(0)});
    blockgtq_encode_args args = served.encode_args(keys, values, n, *at);
    if (!packed) args.pages = {};
    if (exact) args.exact = exact_pages(nullptr, exact_at.get());
    const auto scratch = served.give_scratch(args, blockgtq_encode_scratch);
    const blockgtq_status status = blockgtq_encode(served.cache, &args);
    INFO(blockgtq_last_error());
    REQUIRE(status == BLOCKGTQ_OK);
    served.place.get<int32_t>(*at, 1);  // waits
  }

  int64_t sink_, recent_, columns_, sinks_, ring_;
  std::unique_ptr<Memory> row_, in_order_, pages_, held_, packed_lengths_, exact_lengths_, exact_starts_;
};

}  // namespace

TEST_CASE("exact positions", "[capi]") {
  constexpr int64_t kPrompt = 210, kAll = 330;
  for (const std::string& device : devices())
    for (const Kind& kind : {kinds()[2], kinds()[5], kinds()[6]})
      for (const auto& [sink, recent] : {std::pair<int64_t, int64_t>{64, 70}, {0, 64}, {64, 0}, {128, 1}}) {
        INFO(device << ": " << text(kind) << ", sink " << sink << ", recent " << recent);
        Windowed text(kind, device, sink, recent, kAll);
        Served& served = text.served;
        const int64_t width = served.width(), q_width = served.q_width();
        const auto k = rounded(served.normal(kAll * width), BLOCKGTQ_F16),
                   v = rounded(served.normal(kAll * width), BLOCKGTQ_F16),
                   q = rounded(served.normal(kAll * q_width), BLOCKGTQ_F16);
        const Reference how{kHeads, kKvHeads, kind.dim, served.of_layer.scale};
        const double bound = device == "cpu" ? 1e-5 + 0x1p-11 : 2e-3 + 0x1p-11;
        const auto part = [](const std::vector<float>& x, int64_t each, int64_t first, int64_t n) {
          return std::vector<float>(x.begin() + first * each, x.begin() + (first + n) * each);
        };
        double worst = 0;
        for (int64_t first = 0; first < kPrompt; first += 100) {
          const int64_t n = std::min<int64_t>(100, kPrompt - first);
          text.split(int32_t(first - 1));
          if (first > 0) {
            const auto got =
                text.prefill(part(q, q_width, first, n), part(k, width, first, n), part(v, width, first, n));
            auto all = text.held(k, v, first);
            all.k.insert(all.k.end(), k.begin() + first * width, k.begin() + (first + n) * width);
            all.v.insert(all.v.end(), v.begin() + first * width, v.begin() + (first + n) * width);
            worst = worse(worst, distance(got, attend(how, n, &q[size_t(first * q_width)], all.k, all.v)));
          }
          text.encode_chunk(first, part(k, width, first, n), part(v, width, first, n));
        }
        CHECK(worst < bound);
        for (int64_t t = kPrompt; t < kAll; ++t) {
          text.step(int32_t(t), part(k, width, t, 1), part(v, width, t, 1));
          if (t % 11 != 0 && t != kPrompt) continue;
          const auto got = text.attend(part(q, q_width, t, 1));
          const auto all = text.held(k, v, t + 1);
          worst = worse(worst, distance(got, attend(how, 1, &q[size_t(t * q_width)], all.k, all.v)));
        }
        CHECK(worst < bound);
      }
}

TEST_CASE("sizes of exact positions", "[capi]") {
  CHECK(blockgtq_exact_columns(0, 0) == 1);
  CHECK(blockgtq_exact_columns(64, 0) == 2);
  CHECK(blockgtq_exact_columns(64, 64) == 4);
  CHECK(blockgtq_exact_columns(0, 65) == 4);
  for (const auto& [sink, recent] : {std::pair<int64_t, int64_t>{1, 0}, {-64, 0}, {0, -1}, {INT64_MAX, 0}}) {
    CHECK(blockgtq_exact_columns(sink, recent) == -1);
    CHECK(blockgtq_packed_end(sink, recent, 100) == -1);
    CHECK(blockgtq_exact_length(sink, recent, 100) == -1);
  }
  CHECK(blockgtq_packed_end(64, 64, 200) == 128);
  CHECK(blockgtq_exact_length(64, 64, 200) == 136);
  CHECK(blockgtq_exact_length(64, 64, -1) == -1);
}
