// Pages in host memory, by the CPU implementations of lib/cache and the attention of lib/model.
#include <algorithm>
#include <utility>
#include <vector>

#include "base/parallel.h"
#include "cache/exact_cache.h"
#include "cache/layer_cache.h"
#include "capi/elements.h"
#include "capi/page_device.h"
#include "capi/status.h"
#include "model/attention.h"
#include "serve/kv_kind.h"

namespace blockgtq::capi {
namespace {

/// A number that the caller's arrays say of a sequence.
int64_t of_sequence(const char* what, const int32_t* numbers, int b, int64_t most, int64_t least = 0) {
  const int64_t n = numbers[b];
  require(n >= least && n <= most, "{}[{}]: {}, allowed: {} to {}", what, b, n, least, most);
  return n;
}

/// The pages of one layer, as memory of the host.
struct HostPages {
  const char* name;
  const blockgtq_pages& pages;
  int64_t pitch;

  int64_t id(int b, int64_t page) const {
    const int64_t id = pages.block_table[b * pages.stride + page];
    if (id < 0 || id >= pages.n_pages)
      fail(BLOCKGTQ_PAGES, "{}.block_table[{}][{}]: page {}, there are {}", name, b, page, id, pages.n_pages);
    return id;
  }
  uint8_t* at(int b, int64_t page) const { return static_cast<uint8_t*>(pages.data) + id(b, page) * pitch; }
};

/// A page that is written, and by which tokens.
struct Piece {
  int64_t id = 0;
  int b = 0;
  int64_t page = 0, start = 0;
};

class CpuDevice final : public PageDevice {
 public:
  explicit CpuDevice(const Opened& opened)
      : opened_(opened), exact_(opened.shape.n_kv_heads, opened.dim()), dim_(opened.dim()) {
    for (const PackedSpec& spec : opened.specs) packed_.push_back(make_layer_cache(spec));
  }

  int64_t table_bytes() const override { return 0; }
  int64_t encode_scratch(const Encode&) const override { return 0; }
  int64_t decode_scratch(const Attention&) const override { return 0; }
  int64_t prefill_scratch(const Attention&) const override { return 0; }

  void encode(const Encode& job) const override {
    const HostPages packed = main_pages(job.layer, job.pages), exact = exact_pages(job.exact);
    const auto in_packed = job.pages.data ? pieces(job, packed) : std::vector<std::vector<Piece>>();
    const auto in_exact = job.exact.data ? pieces(job, exact) : std::vector<std::vector<Piece>>();
    write(job, packed, in_packed, [&](int64_t t, const float* k, const float* v, uint8_t* page) {
      opened_.packed() ? packed_[size_t(job.layer)]->write(t, k, v, page) : exact_.write(t, k, v, page);
    });
    write(job, exact, in_exact,
          [&](int64_t t, const float* k, const float* v, uint8_t* page) { exact_.write(t, k, v, page); });
  }

  void decode(const Attention& step) const override { attend(step, false); }
  void prefill(const Attention& chunk) const override { attend(chunk, true); }

  void split(const blockgtq_split_args& a) const override {
    const ExactWindow window{a.sink, a.recent};
    const int64_t columns = exact_columns(a.sink, a.recent), sinks = a.sink / kPagePositions;
    const int64_t ring = ring_pages(window), last = columns - 1;
    for (int b = 0; b < a.batch; ++b) of_sequence("held", a.held, b, opened_.longest - 1, -1);
    for (int b = 0; b < a.batch; ++b) {
      const int64_t length = int64_t(a.held[b]) + 1, end = packed_end(window, length);
      const int64_t first = end / kPagePositions - sinks, n_exact = exact_length(window, length);
      for (int64_t i = 0; i < columns; ++i) {
        const bool in_ring = i >= sinks && i < last;
        a.exact_table[b * columns + i] =
            a.exact_pages[b * columns + (in_ring ? sinks + (first + i - sinks) % ring : i)];
      }
      a.packed_lengths[b] = int32_t(end);
      a.exact_lengths[b] = int32_t(n_exact);
      const bool held = length <= window.sink || window.recent > 0;
      a.exact_starts[b] = int32_t(held ? n_exact - 1 : last * kPagePositions);
    }
  }

  void read(const Read& job) const override {
    const HostPages pages = job.exact ? exact_pages(job.pages) : main_pages(job.layer, job.pages);
    for (int b = 0; b < job.batch; ++b)
      for (int64_t page = job.first / kPagePositions; page * kPagePositions < job.first + job.tokens; ++page)
        pages.id(b, page);
    parallel_for(size_t(job.batch * job.tokens), [&](size_t i) {
      const int b = int(int64_t(i) / job.tokens);
      const int64_t token = int64_t(i) % job.tokens;
      std::vector<float> k(width()), v(width());
      load(job.layer, job.exact, pages, b, job.first + token, k.data(), v.data());
      store_row(k.data(), job.k, b, token, dim_);
      store_row(v.data(), job.v, b, token, dim_);
    });
  }

 private:
  size_t width() const { return size_t(opened_.shape.n_kv_heads) * size_t(dim_); }

  HostPages main_pages(int layer, const blockgtq_pages& pages) const {
    return {"pages", pages, opened_.layers[size_t(layer)].page_pitch};
  }
  HostPages exact_pages(const blockgtq_pages& pages) const {
    return {"exact", pages, opened_.exact_page_bytes()};
  }

  /// Decodes position t of a sequence: k (H, D), v (H, D).
  void load(int layer, bool exact, const HostPages& pages, int b, int64_t t, float* k, float* v) const {
    std::vector<double> key(width()), value(width());
    const uint8_t* const page = pages.at(b, t / kPagePositions);
    if (exact || !opened_.packed())
      exact_.read(t, page, key.data(), value.data());
    else
      packed_[size_t(layer)]->read(t, page, key.data(), value.data());
    std::copy(key.begin(), key.end(), k);
    std::copy(value.begin(), value.end(), v);
  }

  /// What is written, page by page: bytes hold bits of neighbouring positions, so that a page has one writer.
  /// Only pages that nobody reads come more than once.
  static std::vector<std::vector<Piece>> pieces(const Encode& job, const HostPages& pages) {
    std::vector<Piece> all;
    for (int b = 0; b < job.batch; ++b) {
      const int64_t start = of_sequence("starts", pages.pages.starts, b, pages.pages.longest - job.tokens);
      for (int64_t page = start / kPagePositions; page * kPagePositions < start + job.tokens; ++page)
        all.push_back({pages.id(b, page), b, page, start});
    }
    std::stable_sort(all.begin(), all.end(), [](const Piece& a, const Piece& b) { return a.id < b.id; });
    std::vector<std::vector<Piece>> out;
    for (const Piece& piece : all) {
      if (out.empty() || out.back()[0].id != piece.id) out.emplace_back();
      out.back().push_back(piece);
    }
    return out;
  }

  template <class Write>
  void write(const Encode& job, const HostPages& pages, const std::vector<std::vector<Piece>>& by_page,
             const Write& write) const {
    parallel_for(by_page.size(), [&](size_t i) {
      std::vector<float> k(width()), v(width());
      for (const Piece& piece : by_page[i]) {
        const int64_t begin = std::max(piece.page * kPagePositions, piece.start);
        const int64_t end = std::min((piece.page + 1) * kPagePositions, piece.start + job.tokens);
        for (int64_t t = begin; t < end; ++t) {
          load_row(job.k, piece.b, t - piece.start, dim_, k.data());
          load_row(job.v, piece.b, t - piece.start, dim_, v.data());
          std::transform(k.begin(), k.end(), k.begin(), as_half);
          std::transform(v.begin(), v.end(), v.begin(), as_half);
          write(t, k.data(), v.data(), static_cast<uint8_t*>(pages.pages.data) + piece.id * pages.pitch);
        }
      }
    });
  }

  /// Positions of a sequence in the order of its text: which pages hold them, and where.
  struct Positions {
    bool exact;
    int64_t first, end;
  };
  std::vector<Positions> positions(const Attention& a, int b) const {
    std::vector<Positions> parts;
    const int64_t held = a.exact.data ? of_sequence("exact.lengths", a.exact.lengths, b, a.exact.longest) : 0;
    const int64_t length =
        a.pages.data ? of_sequence("pages.lengths", a.pages.lengths, b, a.pages.longest) : 0;
    const int64_t first = int64_t(a.first_page) * kPagePositions, sink = std::min(held, a.exact_first);
    if (sink > 0) parts.push_back({true, 0, sink});
    if (length > first) parts.push_back({false, first, length});
    if (held > sink) parts.push_back({true, sink, held});
    const HostPages packed = main_pages(a.layer, a.pages), exact = exact_pages(a.exact);
    for (const Positions& part : parts)
      for (int64_t page = part.first / kPagePositions; page * kPagePositions < part.end; ++page)
        (part.exact ? exact : packed).id(b, page);
    return parts;
  }

  /// with_chunk: the queries' own keys and values are k and v; else the last position is the query's own.
  void attend(const Attention& a, bool with_chunk) const {
    std::vector<std::vector<Positions>> of_all;
    for (int b = 0; b < a.batch; ++b) of_all.push_back(positions(a, b));
    for (int b = 0; b < a.batch; ++b) attend(a, b, of_all[size_t(b)], with_chunk);
  }

  void attend(const Attention& a, int b, const std::vector<Positions>& parts, bool with_chunk) const {
    const HostPages packed = main_pages(a.layer, a.pages), exact = exact_pages(a.exact);
    int64_t held = 0;
    for (const Positions& part : parts) held += part.end - part.first;
    const int64_t n = held + (with_chunk ? a.tokens : 0), heads = a.q.heads;
    std::vector<float> k(size_t(n) * width()), v(k.size());
    size_t at = 0;
    for (const Positions& part : parts) {
      parallel_for(size_t(part.end - part.first), [&](size_t i) {
        load(a.layer, part.exact, part.exact ? exact : packed, b, part.first + int64_t(i),
             &k[(at + i) * width()], &v[(at + i) * width()]);
      });
      at += size_t(part.end - part.first);
    }
    for (int64_t t = 0; t < n - held; ++t) {
      load_row(a.k, b, t, dim_, &k[(at + size_t(t)) * width()]);
      load_row(a.v, b, t, dim_, &v[(at + size_t(t)) * width()]);
    }
    const auto of_token = size_t(heads * dim_);
    std::vector<float> q(size_t(a.tokens) * of_token), out(q.size());
    for (int64_t t = 0; t < a.tokens; ++t) load_row(a.q, b, t, dim_, &q[size_t(t) * of_token]);
    if (n > 0) {
      AttentionProblem problem;
      problem.n_tokens = problem.chunk = a.tokens;
      problem.past = n - a.tokens;
      problem.n_heads = heads;
      problem.group = opened_.shape.group();
      problem.scale = float(a.rule.scale);
      problem.window = a.rule.window;
      problem.softcap = a.rule.softcap;
      problem.sinks = a.rule.sinks;
      problem.q = {q.data(), heads * dim_, dim_, dim_};
      problem.k = {k.data(), int64_t(width()), dim_, dim_};
      problem.v = {v.data(), int64_t(width()), dim_, dim_};
      attention(problem, out.data());
    }
    for (int64_t t = 0; t < a.tokens; ++t) store_row(&out[size_t(t) * of_token], a.out, b, t, dim_);
  }

  const Opened& opened_;
  std::vector<std::unique_ptr<LayerCache>> packed_;  // (L), or empty
  ExactCache exact_;
  int dim_;
};

}  // namespace

std::unique_ptr<PageDevice> make_cpu_device(const Opened& opened) {
  return std::make_unique<CpuDevice>(opened);
}

}  // namespace blockgtq::capi
