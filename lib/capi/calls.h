#pragma once
#include <cstdint>

#include "capi/blockgtq.h"
#include "capi/opened.h"

// The arguments of calls once they have been checked: names of the layer, sizes, strides and rules are what
// they must be. Whether pointers lie on the device, and what lengths and block tables say, is for the device
// to check.

namespace blockgtq::capi {

/// An array (B, T, heads, D).
struct Rows {
  void* data = nullptr;
  blockgtq_dtype type = BLOCKGTQ_F16;
  int64_t sequence = 0, token = 0, head = 0;  // strides, in elements
  int heads = 0;
  bool dense = false;  // contiguous
};

struct Encode {
  int layer = 0, batch = 0;
  int64_t tokens = 0;
  blockgtq_pages pages{}, exact{};  // data null: none
  Rows k, v;
  void* scratch = nullptr;
  int64_t scratch_bytes = 0;
  void* stream = nullptr;
};

struct Rule {
  double scale = 0, softcap = 0;  // softcap 0: none
  int64_t window = 0;             // 0: none
  const int32_t* positions = nullptr;
  const float* sinks = nullptr;
};

/// Decoding, where T is 1 and k and v are not used, or a chunk.
struct Attention {
  int layer = 0, batch = 0, first_page = 0;
  bool just_encoded = false;
  int64_t tokens = 1, exact_first = 0;
  blockgtq_pages pages{}, exact{};
  Rows q, k, v, out;
  Rule rule;
  void* scratch = nullptr;
  int64_t scratch_bytes = 0;
  void* stream = nullptr;
};

struct Read {
  int layer = 0, batch = 0;
  bool exact = false;
  int64_t first = 0, tokens = 0;
  blockgtq_pages pages{};
  Rows k, v;
  void* stream = nullptr;
};

/// What a checked call is for: to run, or to be asked how much scratch it takes, when pointers may be null.
enum class Purpose { run, scratch };

Encode checked(const Opened& opened, const blockgtq_encode_args& args, Purpose purpose);
Attention checked(const Opened& opened, const blockgtq_decode_args& args, Purpose purpose);
Attention checked(const Opened& opened, const blockgtq_prefill_args& args, Purpose purpose);
Read checked(const Opened& opened, const blockgtq_read_args& args);
void require_split(const Opened& opened, const blockgtq_split_args& args);

/// BLOCKGTQ_USAGE unless there is scratch memory of `needed` bytes.
void require_scratch(const void* scratch, int64_t bytes, int64_t needed);

/// Columns of a row of fp16 pages; -1 where sink or recent are not allowed.
int64_t exact_columns(int64_t sink, int64_t recent);

}  // namespace blockgtq::capi
