#include "capi/calls.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/page.h"
#include "capi/status.h"
#include "serve/kv_kind.h"

namespace blockgtq::capi {
namespace {

constexpr int64_t kMostStride = int64_t(1) << 40;  // with room for products

bool aligned(const void* pointer, size_t bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
}

size_t bytes_of(blockgtq_dtype type) {
  return type == BLOCKGTQ_F32 ? 4 : 2;
}

/// The sizes of a call, and what its arrays are checked against.
struct Call {
  const Opened& opened;
  int layer, batch;
  int64_t tokens;
  Purpose purpose;

  /// reserved: the words that a later version may give a meaning.
  void require_sizes(int32_t reserved) const {
    require(reserved == 0, "reserved: {}, 0 is expected", reserved);
    const AttentionShape& shape = opened.shape;
    require(layer >= 0 && layer < shape.n_layers, "layer: {}, allowed: 0 to {}", layer, shape.n_layers - 1);
    require(batch > 0 && batch <= 65535, "batch: {}, allowed: 1 to 65535", batch);
    const int64_t each = int64_t(shape.n_heads + 2 * shape.n_kv_heads) * opened.dim();
    const int64_t most =
        std::min((int64_t(1) << 34) / (each * batch), (int64_t(1) << 30) / shape.group() - 1);
    require(tokens > 0 && tokens <= most, "tokens: {}, allowed with this batch: 1 to {}", tokens, most);
  }

  Rows rows(const char* name, const blockgtq_tensor& x, int heads, bool written) const {
    require(x.dtype >= BLOCKGTQ_F16 && x.dtype <= BLOCKGTQ_F32,
            "{}.dtype: {}, allowed: BLOCKGTQ_F16, _BF16, _F32 ({} to {})", name, x.dtype, int(BLOCKGTQ_F16),
            int(BLOCKGTQ_F32));
    require(x.reserved == 0, "{}.reserved: {}, 0 is expected", name, x.reserved);
    Rows out;
    out.data = x.data;
    out.type = blockgtq_dtype(x.dtype);
    out.heads = heads;
    if (purpose == Purpose::run) {
      require(x.data, "{}.data is a null pointer", name);
      require(aligned(x.data, bytes_of(out.type)), "{}.data is not aligned to its elements", name);
    }
    const int64_t dim = opened.dim(), of_token = heads * dim;
    if (x.stride_sequence == 0 && x.stride_token == 0 && x.stride_head == 0) {
      out.sequence = tokens * of_token, out.token = of_token, out.head = dim, out.dense = true;
      return out;
    }
    for (const int64_t stride : {x.stride_sequence, x.stride_token, x.stride_head})
      require(stride >= 0 && stride <= kMostStride, "{}: strides {}, {}, {}, allowed: 0 to {}", name,
              x.stride_sequence, x.stride_token, x.stride_head, kMostStride);
    // A dimension of one has no stride that matters.
    out.sequence = batch > 1 ? x.stride_sequence : tokens * of_token;
    out.token = tokens > 1 ? x.stride_token : of_token;
    out.head = heads > 1 ? x.stride_head : dim;
    out.dense = out.sequence == tokens * of_token && out.token == of_token && out.head == dim;
    if (written) require_apart(name, out);
    return out;
  }

  /// Elements that are written must not share memory.
  void require_apart(const char* name, const Rows& x) const {
    struct Axis {
      int64_t stride, n;
    };
    std::array<Axis, 3> axes = {{{batch > 1 ? x.sequence : 0, batch},
                                 {tokens > 1 ? x.token : 0, tokens},
                                 {x.heads > 1 ? x.head : 0, x.heads}}};
    std::sort(axes.begin(), axes.end(), [](const Axis& a, const Axis& b) { return a.stride < b.stride; });
    int64_t reach = opened.dim();  // elements from the first to the last of what was looked at
    for (const Axis& axis : axes) {
      if (axis.n == 1) continue;
      require(axis.stride >= reach, "{}: strides {}, {}, {}: elements would share memory", name, x.sequence,
              x.token, x.head);
      reach += axis.stride * (axis.n - 1);
    }
  }

  struct Wanted {
    bool lengths = false, starts = false;
    int64_t longest = INT32_MAX;  // allowed
  };
  void require_pages(const char* name, const blockgtq_pages& p, const Wanted& wanted) const {
    require(p.longest >= 0 && p.longest <= wanted.longest, "{}.longest: {}, allowed: 0 to {}", name,
            p.longest, wanted.longest);
    require(p.stride > 0 && p.stride <= INT32_MAX, "{}.stride: {}, at least 1 is expected", name, p.stride);
    if (p.longest > p.stride * kPagePositions)
      fail(BLOCKGTQ_PAGES, "{}: out of pages: {} positions, the block table has {} columns, which are {}",
           name, p.longest, p.stride, p.stride * kPagePositions);
    require(p.n_pages > 0 && p.n_pages <= INT32_MAX, "{}.n_pages: {}, allowed: 1 to {}", name, p.n_pages,
            INT32_MAX);
    if (purpose == Purpose::scratch) return;
    require(p.data, "{}.data is a null pointer", name);
    require(aligned(p.data, 16), "{}.data is not aligned to 16 bytes", name);
    require(p.block_table, "{}.block_table is a null pointer", name);
    require(!wanted.lengths || p.lengths, "{}.lengths is a null pointer", name);
    require(!wanted.starts || p.starts, "{}.starts is a null pointer", name);
    for (const int32_t* words :
         {p.block_table, wanted.lengths ? p.lengths : nullptr, wanted.starts ? p.starts : nullptr})
      require(aligned(words, 4), "{}: block table, lengths or starts are not aligned to 4 bytes", name);
  }
};

/// Whether these pages are there. Scratch is asked for without pointers: there n_pages says it.
bool given(const blockgtq_pages& pages) {
  return pages.data || pages.n_pages > 0;
}

void require_stream(const Opened& opened, const void* stream) {
  require(opened.on_gpu() || !stream, "stream: the CPU has none, a null pointer is expected");
}

/// What the caller says, or the layer.
Rule rule_of(const Opened& opened, const blockgtq_rule& asked, int layer) {
  const blockgtq_layer& of_layer = opened.layers[size_t(layer)];
  require(std::isfinite(asked.scale) && asked.scale >= 0, "rule.scale: {}, allowed: 0 or more", asked.scale);
  require(std::isfinite(asked.softcap), "rule.softcap: {}", asked.softcap);
  Rule rule;
  rule.scale = asked.scale > 0 ? asked.scale : of_layer.scale;
  rule.softcap = std::max(0.0, asked.softcap != 0 ? asked.softcap : of_layer.softcap);
  rule.window = std::max<int64_t>(0, asked.window != 0 ? asked.window : of_layer.window);
  if (rule.window >= opened.longest) rule.window = 0;  // it has no effect
  rule.positions = asked.positions;
  rule.sinks = asked.sinks;
  return rule;
}

/// What decoding and a chunk have in common: all but flags and packed pages.
template <class Args>
Attention attention_of(const Call& call, const Args& args) {
  const AttentionShape& shape = call.opened.shape;
  Attention a;
  a.layer = call.layer;
  a.batch = call.batch;
  a.tokens = call.tokens;
  a.first_page = args.first_page;
  if (given(args.exact)) a.exact = args.exact;
  a.exact_first = args.exact_first;
  a.q = call.rows("q", args.q, shape.n_heads, false);
  if constexpr (requires { args.k; }) {
    a.k = call.rows("k", args.k, shape.n_kv_heads, false);
    a.v = call.rows("v", args.v, shape.n_kv_heads, false);
  }
  a.out = call.rows("out", args.out, shape.n_heads, true);
  a.rule = rule_of(call.opened, args.rule, call.layer);
  a.scratch = args.scratch;
  a.scratch_bytes = args.scratch_bytes;
  a.stream = args.stream;
  return a;
}

/// The pages of decoding and of a chunk.
void require_context(const Opened& opened, const Call& call, const Attention& a) {
  require(a.first_page >= 0 && int64_t(a.first_page) * kPagePositions <= opened.longest,
          "first_page: {}, allowed: 0 to {}", a.first_page, opened.longest / kPagePositions);
  require(opened.packed() || (a.first_page == 0 && !given(a.exact)),
          "fp16 pages hold all positions: no first_page and no exact pages beside them");
  if (given(a.exact)) {
    call.require_pages("exact", a.exact, {true, false, opened.longest + 2 * kPagePositions});
    require(a.exact_first >= 0 && a.exact_first <= a.exact.longest, "exact_first: {}, allowed: 0 to {}",
            a.exact_first, a.exact.longest);
  }
  if (a.rule.sinks || call.purpose == Purpose::scratch) return;
  require(!opened.layers[size_t(a.layer)].sinks,
          "rule.sinks: null, and heads of this layer have learned ones");
}

}  // namespace

Encode checked(const Opened& opened, const blockgtq_encode_args& args, Purpose purpose) {
  const Call call{opened, args.layer, args.batch, args.tokens, purpose};
  call.require_sizes(args.reserved);
  require_stream(opened, args.stream);
  const int heads = opened.shape.n_kv_heads;
  Encode job;
  job.layer = args.layer;
  job.batch = args.batch;
  job.tokens = args.tokens;
  job.k = call.rows("k", args.k, heads, false);
  job.v = call.rows("v", args.v, heads, false);
  job.scratch = args.scratch;
  job.scratch_bytes = args.scratch_bytes;
  job.stream = args.stream;
  require(opened.packed() || !given(args.exact), "fp16 pages have no exact pages beside them");
  require(given(args.pages) || given(args.exact), "pages and exact: neither has data, nothing is written");
  const auto take = [&](const char* name, const blockgtq_pages& from, int64_t longest, blockgtq_pages& to) {
    if (!given(from)) return;
    call.require_pages(name, from, {false, true, longest});
    require(from.longest >= args.tokens, "{}.longest: {}, and {} tokens are written", name, from.longest,
            args.tokens);
    to = from;
  };
  take("pages", args.pages, opened.longest, job.pages);
  take("exact", args.exact, INT32_MAX, job.exact);
  return job;
}

Attention checked(const Opened& opened, const blockgtq_decode_args& args, Purpose purpose) {
  const Call call{opened, args.layer, args.batch, 1, purpose};
  call.require_sizes(args.reserved);
  require_stream(opened, args.stream);
  require((args.flags & ~BLOCKGTQ_JUST_ENCODED) == 0, "flags: {:#x}, known: {:#x}", args.flags,
          BLOCKGTQ_JUST_ENCODED);
  Attention a = attention_of(call, args);
  a.just_encoded = args.flags & BLOCKGTQ_JUST_ENCODED;
  a.pages = args.pages;
  call.require_pages("pages", args.pages, {true, false, opened.longest});
  require_context(opened, call, a);
  if (!opened.on_gpu()) return a;
  const Rule& rule = a.rule;
  require(!opened.trellis() || (rule.window == 0 && rule.softcap == 0 && !rule.sinks),
          "attention with a sliding window, softcaps or learned sinks over trellis codes has no kernel");
  require(rule.window == 0 || rule.positions || purpose == Purpose::scratch,
          "rule.positions: null, and a window of {} needs them", rule.window);
  return a;
}

Attention checked(const Opened& opened, const blockgtq_prefill_args& args, Purpose purpose) {
  const Call call{opened, args.layer, args.batch, args.tokens, purpose};
  call.require_sizes(args.reserved);
  require_stream(opened, args.stream);
  require(args.flags == 0, "flags: {:#x}, known: 0", args.flags);
  Attention a = attention_of(call, args);
  if (args.pages.longest != 0) {
    call.require_pages("pages", args.pages, {true, false, opened.longest});
    a.pages = args.pages;
  }
  require_context(opened, call, a);
  return a;
}

Read checked(const Opened& opened, const blockgtq_read_args& args) {
  const Call call{opened, args.layer, args.batch, args.tokens, Purpose::run};
  call.require_sizes(0);
  require_stream(opened, args.stream);
  require(args.exact == 0 || args.exact == 1, "exact: {}, allowed: 0, 1", args.exact);
  require(args.first >= 0 && args.first <= INT32_MAX - args.tokens, "first: {}, with {} tokens", args.first,
          args.tokens);
  Read job;
  job.layer = args.layer;
  job.batch = args.batch;
  job.exact = args.exact || !opened.packed();
  job.first = args.first;
  job.tokens = args.tokens;
  job.pages = args.pages;
  job.pages.longest = args.first + args.tokens;
  job.k = call.rows("k", args.k, opened.shape.n_kv_heads, true);
  job.v = call.rows("v", args.v, opened.shape.n_kv_heads, true);
  job.stream = args.stream;
  call.require_pages("pages", job.pages, {});
  return job;
}

void require_split(const Opened& opened, const blockgtq_split_args& args) {
  require_stream(opened, args.stream);
  require(opened.packed(), "fp16 pages hold all positions: there is nothing to split");
  require(args.batch > 0 && args.batch <= 65535, "batch: {}, allowed: 1 to 65535", args.batch);
  require(exact_columns(args.sink, args.recent) > 0, "sink, recent: {}, {}: a multiple of 64, and 0 or more",
          args.sink, args.recent);
  const struct {
    const char* name;
    const void* pointer;
  } pointers[] = {{"held", args.held},
                  {"exact_pages", args.exact_pages},
                  {"packed_lengths", args.packed_lengths},
                  {"exact_lengths", args.exact_lengths},
                  {"exact_starts", args.exact_starts},
                  {"exact_table", args.exact_table}};
  for (const auto& [name, pointer] : pointers)
    require(pointer && aligned(pointer, 4), "{}: a null pointer, or not aligned to 4 bytes", name);
}

void require_scratch(const void* scratch, int64_t bytes, int64_t needed) {
  if (needed == 0) return;
  require(bytes >= needed, "scratch_bytes: {}, {} are needed", bytes, needed);
  require(scratch && aligned(scratch, 128), "scratch: a null pointer, or not aligned to 128 bytes");
}

int64_t exact_columns(int64_t sink, int64_t recent) {
  constexpr int64_t most = INT32_MAX - 2 * kPagePositions;
  if (sink < 0 || sink > most || sink % kPagePositions != 0 || recent < 0 || recent > most) return -1;
  return sink / kPagePositions + ring_pages({sink, recent}) + 1;
}

}  // namespace blockgtq::capi
