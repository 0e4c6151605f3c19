/* blockgtq.h: the packed key-value cache of blockgtq for serving engines. C11 and C++17.
 *
 * A blockgtq_cache knows how keys and values of a model's layers lie in pages of 64 positions, as codes or in
 * fp16, and has what a device needs to write and read them. It holds no pages. Pages, block tables, lengths
 * and scratch memory are the caller's, on the device that the cache was opened for.
 *
 *   blockgtq_open                          reads a map, makes tables. The only call that keeps memory
 *   blockgtq_describe, _describe_layer     sizes, methods, what attention of the model is like
 *   blockgtq_encode                        writes keys and values, of a prompt or of one token, into pages
 *   blockgtq_decode                        attention of one new token per sequence over its pages
 *   blockgtq_prefill                       attention of a chunk of new tokens behind pages, and over itself
 *   blockgtq_split                         for sequences with exact positions: what lies where
 *   blockgtq_read                          keys and values as pages hold them, for tests and fallbacks
 *
 * Letters in shapes: B sequences, T tokens of each, L layers, Hq query heads, H KV heads, D head dimension.
 *
 * Rules that hold for all calls:
 *
 * - Structures begin with struct_size, which the caller sets to sizeof. All that is not set must be zero:
 *   `blockgtq_decode_args args = {0}; args.struct_size = sizeof args;`. A later version may append fields. It
 *   takes zeros for those that an older caller does not have; a library that is older than its caller
 *   refuses fields that it does not know unless they are zero.
 * - A call returns a blockgtq_status. Where that is not BLOCKGTQ_OK, blockgtq_last_error() has one line of
 *   text. Arguments are checked before anything is written or launched. Only after BLOCKGTQ_DEVICE, _MEMORY
 *   and _DEFECT may outputs hold a part of the result.
 * - On a GPU, encode, decode, prefill and split allocate nothing, wait for nothing, and launch all they do on
 *   `stream` (a cudaStream_t; NULL is the default stream). So they may be captured in a CUDA graph, and a
 *   captured call reads lengths, starts and block tables anew with every replay. Numbers in the structures
 *   themselves (batch, tokens, longest) are captured as they are. The current device of the calling thread is
 *   the same after a call.
 * - On the CPU the same calls take pointers to host memory, return when the work is done, and may allocate
 *   while they run. `stream` must be NULL, and scratch is not needed. Lengths, starts and block tables are
 *   checked there. On a GPU they cannot be: an entry of the block table that is no page is undefined
 *   behaviour.
 * - A cache does not change after blockgtq_open(). Threads may share it, where each has its own scratch and
 *   pages.
 * - A token counts at its absolute position: the model's RoPE has been applied to q and k for it. Maps with
 *   centred keys (tq-mse-cb and others) subtract the mean of keys as rotated to that position.
 */
#ifndef BLOCKGTQ_H
#define BLOCKGTQ_H

#include <stddef.h>
#include <stdint.h>

#if defined(BLOCKGTQ_BUILD)
#define BLOCKGTQ_API __attribute__((visibility("default")))
#else
#define BLOCKGTQ_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The interface that this header describes. The library's file name and its symbols carry it
 * (libblockgtq.so.1, BLOCKGTQ_1). It changes only where older callers would break. */
#define BLOCKGTQ_INTERFACE 1

/* Positions of a page. */
#define BLOCKGTQ_BLOCK_SIZE 64

/* What calls return. The first ones are the exit codes of the command line. */
typedef enum blockgtq_status {
  BLOCKGTQ_OK = 0,
  BLOCKGTQ_DEFECT = 1, /* a defect of blockgtq */
  BLOCKGTQ_USAGE = 2,  /* an argument is wrong: the text names it, its value and what is allowed */
  BLOCKGTQ_INPUT = 3,  /* the map: not readable, of another model, or a method that pages cannot hold */
  BLOCKGTQ_DEVICE = 5, /* no such device, built without CUDA, out of device memory, a kernel that failed */
  BLOCKGTQ_MEMORY = 8, /* out of host memory */
  BLOCKGTQ_PAGES = 9   /* positions without a page: the block table is too narrow, or an entry is no page */
} blockgtq_status;

typedef enum blockgtq_dtype { BLOCKGTQ_F16 = 1, BLOCKGTQ_BF16 = 2, BLOCKGTQ_F32 = 3 } blockgtq_dtype;

typedef struct blockgtq_cache blockgtq_cache;

/* BLOCKGTQ_INTERFACE of the library that runs. */
BLOCKGTQ_API int32_t blockgtq_interface(void);

/* "blockgtq 0.1.0, CUDA" or "blockgtq 0.1.0, without CUDA". */
BLOCKGTQ_API const char* blockgtq_version(void);

/* The text of the last call of this thread that did not return BLOCKGTQ_OK; "" before there was one. One
 * line, valid until this thread's next call that fails. */
BLOCKGTQ_API const char* blockgtq_last_error(void);

/* ---- Opening ---- */

/* Pointers of hot calls are not looked up. Without this flag every call on a GPU asks the driver whether each
 * pointer is memory of the cache's device, which takes part of a microsecond per pointer. A captured graph
 * does not ask again when it is replayed. */
#define BLOCKGTQ_TRUST_POINTERS 1u

typedef struct blockgtq_options {
  uint32_t struct_size;
  uint32_t flags; /* BLOCKGTQ_TRUST_POINTERS or 0 */

  /* A map of `blockgtq calibrate`, and what of it pages hold, as `blockgtq generate --kv MAP` has it.
   * map NULL: pages hold fp16, and the five names must be NULL, too. */
  const char* map;
  const char* pair;       /* bits of keys and values: "K3V3"; NULL: the map's first budget for both */
  const char* key_method; /* NULL: "block-gtq", with trellis codes "tq-mse-cb"; "chosen": what the map says */
  const char* value_method; /* NULL: "tq-mse", with trellis codes "tq-mse-centred"; "chosen" */
  const char* code;         /* "scalar" (or NULL), "trellis" */
  const char* codebook;     /* "reference", "exact"; NULL: by method */

  const char* device; /* "cpu" (or NULL), "cuda", "cuda:N". On a GPU D is 64, 80, 96, 128 or 256 */
  int64_t longest; /* positions of the longest sequence: 1 to 2^31 - 65. Tables of centred keys on a GPU grow
                      with it (D / 16 bytes per position and layer) */

  /* The model. With a map: what the map must be of, each 0 for "whatever it is"; another value is
   * BLOCKGTQ_INPUT. Without a map all four are needed; D is a multiple of 16. */
  int32_t n_layers, n_heads, n_kv_heads, head_dim;

  /* Tensor parallel: only these KV heads, and the query heads that read them, are in pages and tensors.
   * kv_heads 0: all. The four numbers above are those of the whole model. */
  int32_t first_kv_head, kv_heads;

  /* Bytes from page to page, the same for all layers and a multiple of 16, where the caller's pages are
   * larger than needed; 0: page_bytes of every layer. fp16 pages have no other size: 0, or that size. */
  int64_t page_pitch;
} blockgtq_options;

/* Opens the map and makes all tables, on the device where that is a GPU (some MB; waits). The file is closed
 * again. *cache is NULL where the call fails. To be closed with blockgtq_close(). */
BLOCKGTQ_API blockgtq_status blockgtq_open(const blockgtq_options* options, blockgtq_cache** cache);

/* Frees the tables. No work that uses them may be running or captured. NULL is allowed. */
BLOCKGTQ_API void blockgtq_close(blockgtq_cache* cache);

/* ---- Describing ---- */

/* Numbers of heads are those of this cache: where options.kv_heads says so, only a part of the model's. */
typedef struct blockgtq_description {
  uint32_t struct_size;
  int32_t packed;                        /* 1: codes, 0: fp16 */
  int32_t device;                        /* -1: the CPU; else the GPU's index */
  int32_t n_layers;                      /* L */
  int32_t n_heads;                       /* Hq: the one number of query heads that decode and prefill take */
  int32_t n_kv_heads;                    /* H */
  int32_t head_dim;                      /* D, of keys and of values */
  int32_t block_size;                    /* 64 positions of a page */
  int32_t keys_rotated;                  /* 1: pages hold keys after RoPE */
  int32_t rotary_dim;                    /* R: coordinates that RoPE rotates; 0 without a map */
  int32_t interleaved;                   /* RoPE rotates (2i, 2i + 1) together; 0: (i, i + R / 2) */
  int32_t alignment;                     /* of pages, bytes: 16 */
  double key_bits, value_bits;           /* per coordinate, as asked for; 16 for fp16 */
  double bytes_per_token;                /* of pages, all layers: the sum of page_bytes / 64 */
  int64_t largest_page_bytes;            /* of any layer */
  int64_t exact_page_bytes;              /* of one layer's fp16 page: 256 D H */
  int64_t table_bytes;                   /* of device memory that the cache holds; 0 on the CPU */
  char key_method[32], value_method[32]; /* "exact" for fp16 */
  char pair[32];                         /* "K3V3"; "exact" */
  char code[32];                         /* "scalar", "trellis"; "fp16" */
} blockgtq_description;

/* `description`: struct_size is set, the rest is written. */
BLOCKGTQ_API blockgtq_status blockgtq_describe(const blockgtq_cache* cache,
                                               blockgtq_description* description);

typedef struct blockgtq_layer {
  uint32_t struct_size;
  int32_t window;     /* positions that a query of this layer sees, its own included; 0: all */
  int64_t page_bytes; /* of a page of this layer: 64 positions, keys and values of all H heads */
  int64_t page_pitch; /* bytes from page to page: page_bytes, or options.page_pitch */
  double scale;       /* of logits; 1 / sqrt(D) where the model has none of its own */
  double softcap;     /* c, where a logit x becomes c tanh(x / c); 0: none */
  int32_t sinks;      /* 1: every head has one learned logit without a key, see blockgtq_rule */
  int32_t reserved;
} blockgtq_layer;

BLOCKGTQ_API blockgtq_status blockgtq_describe_layer(const blockgtq_cache* cache, int32_t layer,
                                                     blockgtq_layer* description);

/* The frequencies of RoPE for which the map was made, radians per position: `out` gets the first n of R / 2.
 * A caller compares them with its model's. BLOCKGTQ_USAGE without a map, or where n is not R / 2. */
BLOCKGTQ_API blockgtq_status blockgtq_frequencies(const blockgtq_cache* cache, int32_t layer, double* out,
                                                  int32_t n);

/* ---- What calls take ---- */

/* An array of shape (B, T, heads, D); in decode, where T is 1, (B, heads, D). Its strides are in elements.
 * All three 0: contiguous. The stride of D is 1, that of a dimension of one is not read.
 * On a GPU contiguous 16-byte aligned fp16 is read and written in place, and so is bf16 by encode (k and v of
 * one type) and decode (q and out of one type). Others go through scratch memory, with one more launch for
 * inputs and one for out. Queries, keys and values of all types become fp16 numbers; beyond 65504 they are
 * clipped. */
typedef struct blockgtq_tensor {
  void* data;
  int32_t dtype; /* blockgtq_dtype */
  int32_t reserved;
  int64_t stride_sequence, stride_token, stride_head;
} blockgtq_tensor;

/* Pages of one layer. Position t of sequence b lies in page block_table[b * stride + t / 64]. */
typedef struct blockgtq_pages {
  void* data; /* (n_pages, page_pitch), 16-byte aligned; NULL: none */
  int64_t n_pages;
  const int32_t* block_table; /* (B, stride); entries behind a length may be anything */
  int64_t stride;
  const int32_t* lengths; /* (B) for decode and prefill: positions that are read; 0: none */
  const int32_t* starts;  /* (B) for encode: the position of the first new token */
  int64_t longest; /* no length, and no start + tokens, is larger. It decides how work is split, and must
                      not be larger than 64 stride and options.longest */
} blockgtq_pages;

/* What attention of a layer does beside softmax(scale q K^T) V. Zeros: what the map says of the layer.
 * Without a map: 1 / sqrt(D), no window, no softcap. */
typedef struct blockgtq_rule {
  double scale;
  double softcap;           /* negative: none */
  int64_t window;           /* negative: none */
  const int32_t* positions; /* (B) decode with a window: the positions of the new tokens */
  const float* sinks;       /* (Hq) one more logit of every head, without a value; NULL: none. A layer whose
                               description says `sinks` must have them */
} blockgtq_rule;

/* ---- Writing pages ---- */

/* T new tokens of each of B sequences: at positions pages.starts[b] and on, and where `exact` is given, in
 * these fp16 pages at places exact.starts[b] and on. T = 1 appends a token. Either may have no data. */
typedef struct blockgtq_encode_args {
  uint32_t struct_size;
  int32_t layer;
  int32_t batch; /* B */
  int32_t reserved;
  int64_t tokens;       /* T */
  blockgtq_pages pages; /* lengths are not read */
  blockgtq_pages exact; /* the same, of fp16 pages beside packed ones; see blockgtq_split */
  blockgtq_tensor k, v; /* (B, T, H, D), k after RoPE */
  void* scratch;        /* 128-byte aligned, blockgtq_encode_scratch() bytes or more */
  int64_t scratch_bytes;
  void* stream;
} blockgtq_encode_args;

/* Other positions of the pages touched stay as they are. Two sequences must not write into one page. A
 * sequence that only fills up a batch gets a row of the block table that leads to a page which nobody reads.
 */
BLOCKGTQ_API blockgtq_status blockgtq_encode(const blockgtq_cache* cache, const blockgtq_encode_args* args);

/* Bytes of scratch that such a call takes, 0 on the CPU and where nothing is converted. It grows with batch
 * and tokens. Pointers are not followed and may be null: numbers, types, strides, and the alignment of data
 * count; pages whose data is null are there where n_pages says so. */
BLOCKGTQ_API blockgtq_status blockgtq_encode_scratch(const blockgtq_cache* cache,
                                                     const blockgtq_encode_args* args, int64_t* bytes);

/* ---- Attention ---- */

/* The call just before on this stream was blockgtq_encode() of this step's one token per sequence, in this
 * layer, and nothing since wrote pages, block tables or lengths. So older pages may be read while it still
 * runs. */
#define BLOCKGTQ_JUST_ENCODED 1u

/* One new token per sequence, which is in the pages already. It sees positions [64 first_page,
 * pages.lengths[b]) and exact.lengths[b] more in fp16 pages. */
typedef struct blockgtq_decode_args {
  uint32_t struct_size;
  uint32_t flags; /* BLOCKGTQ_JUST_ENCODED or 0 */
  int32_t layer;
  int32_t batch;      /* B */
  int32_t first_page; /* earlier pages, and their entries of the block table, are not read */
  int32_t reserved;
  blockgtq_pages pages; /* starts are not read */
  blockgtq_pages exact; /* more positions in fp16, in any order; data NULL: none. In an fp16 cache: none */
  int64_t exact_first;  /* how many of these are the sequence's first ones; the others are its last */
  blockgtq_tensor q;    /* (B, Hq, D) after RoPE */
  blockgtq_tensor out;  /* (B, Hq, D) */
  blockgtq_rule rule;
  void* scratch; /* 128-byte aligned, blockgtq_decode_scratch() bytes or more */
  int64_t scratch_bytes;
  void* stream;
} blockgtq_decode_args;

/* out = softmax(scale q K^T) V over keys and values as their codes say. Zeros where nothing is read. In
 * trellis codes a GPU has no window, softcap or sinks: BLOCKGTQ_USAGE. */
BLOCKGTQ_API blockgtq_status blockgtq_decode(const blockgtq_cache* cache, const blockgtq_decode_args* args);

/* As blockgtq_encode_scratch(). It grows with batch, and longer sequences do not take more. */
BLOCKGTQ_API blockgtq_status blockgtq_decode_scratch(const blockgtq_cache* cache,
                                                     const blockgtq_decode_args* args, int64_t* bytes);

/* A chunk of T new tokens per sequence behind a prefix. Token i sees the prefix, positions [64 first_page,
 * pages.lengths[b]) and exact.lengths[b] more in fp16 pages, and the chunk's own tokens 0 .. i exactly, as k
 * and v have them. The chunk is not in the pages yet: blockgtq_encode() follows. */
typedef struct blockgtq_prefill_args {
  uint32_t struct_size;
  uint32_t flags; /* 0 */
  int32_t layer;
  int32_t batch;      /* B */
  int32_t first_page; /* as for decode */
  int32_t reserved;
  int64_t tokens; /* T, the same for all sequences; chunks of different lengths are calls of their own */
  blockgtq_pages pages; /* the prefix; longest 0: there is none, and nothing else of it is read */
  blockgtq_pages exact; /* as for decode */
  int64_t exact_first;
  blockgtq_tensor q;    /* (B, T, Hq, D) after RoPE */
  blockgtq_tensor k, v; /* (B, T, H, D) */
  blockgtq_tensor out;  /* (B, T, Hq, D) */
  blockgtq_rule rule;   /* positions are not read */
  void* scratch;        /* 128-byte aligned, blockgtq_prefill_scratch() bytes or more */
  int64_t scratch_bytes;
  void* stream;
} blockgtq_prefill_args;

BLOCKGTQ_API blockgtq_status blockgtq_prefill(const blockgtq_cache* cache, const blockgtq_prefill_args* args);

/* As blockgtq_encode_scratch(), for these tokens, batch and `longest`: a smaller chunk may take more than a
 * larger one, by up to 64 MiB. At most about 256 MiB plus what the chunk takes. */
BLOCKGTQ_API blockgtq_status blockgtq_prefill_scratch(const blockgtq_cache* cache,
                                                      const blockgtq_prefill_args* args, int64_t* bytes);

/* ---- Exact positions ---- */

/* Sequences whose first `sink` and last `recent` positions stay in fp16. The sink is whole pages (a multiple
 * of 64). Packed are whole pages only, so that the recent part is `recent` to `recent` + 63 positions, and
 * lies in a ring of fp16 pages which are used in turn.
 *
 * A sequence has a row of fp16 pages: sink / 64 of the sink, the ring, and one spare page for tokens that are
 * not exact, which is never read. blockgtq_exact_columns() is the length of a row. Packed pages of the sink
 * are written, but not read: all their entries of the block table may lead to one page.
 *
 * A decoding step encodes its token into both, `pages` at its position and `exact` at `exact_starts`, and
 * attends with first_page = sink / 64, exact_first = sink, the lengths that blockgtq_split() gave, and
 * `exact_table` as block table. `longest` of `pages` is blockgtq_packed_end() of the longest length, that of
 * `exact` is sink + recent + 63, or sink where nothing is recent; to encode it is 64 columns.
 *
 * A chunk of a prompt behind n tokens: split with held n - 1, which is -1 where there are none; prefill with
 * that; then encode all T tokens into `pages` at n, those below the sink into `exact` at n, and those that
 * will be recent then, positions max(n, blockgtq_packed_end(sink, recent, n + T)) and on, into the ring:
 * position t at place sink + (t - blockgtq_packed_end(sink, recent, n)) modulo the ring's positions, in the
 * order of `exact_table`. */
typedef struct blockgtq_split_args {
  uint32_t struct_size;
  int32_t batch; /* B */
  int64_t sink, recent;
  const int32_t* held;        /* (B) tokens before this step's one: its position; or -1 */
  const int32_t* exact_pages; /* (B, columns) pages: sink, ring, spare */
  int32_t* packed_lengths;    /* (B) out: for pages.lengths */
  int32_t* exact_lengths;     /* (B) out: for exact.lengths */
  int32_t* exact_starts;      /* (B) out: for exact.starts */
  int32_t* exact_table;       /* (B, columns) out: the same pages, those of the ring from the oldest on */
  void* stream;
} blockgtq_split_args;

/* One launch for all layers of a step. */
BLOCKGTQ_API blockgtq_status blockgtq_split(const blockgtq_cache* cache, const blockgtq_split_args* args);

/* Columns of a row of fp16 pages; -1 for a sink that is not whole pages, or negative numbers. */
BLOCKGTQ_API int64_t blockgtq_exact_columns(int64_t sink, int64_t recent);
/* Packed positions of a sequence of this length are [sink, packed end). */
BLOCKGTQ_API int64_t blockgtq_packed_end(int64_t sink, int64_t recent, int64_t length);
/* How many positions of such a sequence its fp16 pages hold. */
BLOCKGTQ_API int64_t blockgtq_exact_length(int64_t sink, int64_t recent, int64_t length);

/* ---- Reading pages ---- */

typedef struct blockgtq_read_args {
  uint32_t struct_size;
  int32_t layer;
  int32_t batch;         /* B */
  int32_t exact;         /* 1: fp16 pages beside packed ones */
  int64_t first, tokens; /* positions [first, first + tokens) of every sequence */
  blockgtq_pages pages;  /* lengths and starts are not read */
  blockgtq_tensor k, v;  /* (B, tokens, H, D), written */
  void* stream;
} blockgtq_read_args;

/* What pages hold, decoded: keys after RoPE, and values. On a GPU it waits for the stream, copies pages to
 * the host and decodes them there: for tests and fallbacks, not for a graph. */
BLOCKGTQ_API blockgtq_status blockgtq_read(const blockgtq_cache* cache, const blockgtq_read_args* args);

#ifdef __cplusplus
}
#endif

#endif
