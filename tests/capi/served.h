// A cache that was opened through the C interface, with pages, block tables and sequences of random keys and
// values around it.
#pragma once
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "base/float16.h"
#include "blockgtq.h"
#include "capi/place.h"
#include "quant/bit_map.h"

namespace blockgtq::test {

inline constexpr int kLayers = 2, kHeads = 8, kKvHeads = 2, kPage = BLOCKGTQ_BLOCK_SIZE;

/// A map of random keys and values with a mean and energies that fall from block to block, in a folder of its
/// own.
class SampleMap {
 public:
  explicit SampleMap(int dim);
  ~SampleMap();
  std::string path() const { return (folder_ / "map.h5").string(); }
  const BitMap& map() const { return map_; }

 private:
  std::filesystem::path folder_;
  BitMap map_;
};
/// One per head dimension in a process.
const SampleMap& sample_map(int dim);

/// What pages hold.
struct Kind {
  bool packed = true;
  int dim = 64;
  const char* pair = "K3V3";
  const char* key_method = nullptr;
  const char* value_method = nullptr;
  const char* code = nullptr;
  int64_t page_pitch = 0;
  int first_kv_head = 0, kv_heads = 0;
};
std::string text(const Kind& kind);
/// fp16, scalar codes with and without means, trellis codes; parts of the heads, pages with a gap.
const std::vector<Kind>& kinds();

/// The options that open it on a device.
blockgtq_options options(const Kind& kind, const char* device, int64_t longest);

/// Numbers as an array of this type holds them, and the array.
std::vector<float> rounded(std::vector<float> x, blockgtq_dtype type);
std::vector<uint8_t> encoded(const std::vector<float>& x, blockgtq_dtype type);
std::vector<float> decoded(const std::vector<uint8_t>& bytes, blockgtq_dtype type);
inline size_t bytes_of(blockgtq_dtype type) {
  return type == BLOCKGTQ_F32 ? 4 : 2;
}

/// An array in memory of a place.
struct Array {
  std::unique_ptr<Memory> memory;
  blockgtq_tensor tensor{};
};

/// A cache and the pages of one of its layers. A call that fails ends the test with its text.
class Served {
 public:
  Served(const Kind& kind, const std::string& device, int batch, int64_t capacity);
  ~Served() { blockgtq_close(cache); }
  Served(const Served&) = delete;

  int64_t width() const { return int64_t(description.n_kv_heads) * description.head_dim; }
  int64_t q_width() const { return int64_t(description.n_heads) * description.head_dim; }
  /// x as an array (.., heads, D) of this type; one that is to be written.
  Array array(const std::vector<float>& x, blockgtq_dtype type) const;
  Array array(int64_t n, blockgtq_dtype type) const;
  std::vector<float> get(const Array& array, int64_t n) const;
  std::vector<float> normal(int64_t n);

  blockgtq_pages pages(const Memory* lengths, const Memory* starts, int64_t longest) const;
  blockgtq_encode_args encode_args(const Array& k, const Array& v, int64_t tokens,
                                   const Memory& starts) const;
  /// Writes T tokens per sequence behind the `held` ones. k, v (B, T, H, D).
  void encode(const std::vector<float>& k, const std::vector<float>& v, int64_t tokens,
              const std::vector<int32_t>& held, blockgtq_dtype type = BLOCKGTQ_F16);
  /// Memory for what such a call takes, at least one byte.
  template <class Args, class Ask>
  std::unique_ptr<Memory> give_scratch(Args& args, const Ask& ask) const {
    int64_t bytes = -1;
    REQUIRE(ask(cache, &args, &bytes) == BLOCKGTQ_OK);
    auto memory = place.memory(size_t(bytes) + 1);
    args.scratch = memory->data();
    args.scratch_bytes = bytes;
    return memory;
  }
  /// Attention of one query per sequence over `lengths` positions. q (B, Hq, D).
  std::vector<float> decode(const std::vector<float>& q, const std::vector<int32_t>& lengths,
                            blockgtq_dtype type = BLOCKGTQ_F16, const blockgtq_rule& rule = {},
                            uint32_t flags = 0);
  /// Attention of a chunk behind `lengths` positions.
  std::vector<float> prefill(const std::vector<float>& q, const std::vector<float>& k,
                             const std::vector<float>& v, int64_t tokens, const std::vector<int32_t>& lengths,
                             blockgtq_dtype type = BLOCKGTQ_F16, const blockgtq_rule& rule = {});
  /// What pages hold: positions [first, first + n) of every sequence, k and v (B, n, H, D).
  struct Held {
    std::vector<float> k, v;
  };
  Held read(int64_t first, int64_t n) const;
  /// The bytes of a sequence's page.
  std::vector<uint8_t> page(int b, int64_t index) const;

  Place place;
  std::mt19937_64 random{42};
  blockgtq_cache* cache = nullptr;
  blockgtq_description description{};
  blockgtq_layer of_layer{};
  int batch, layer = kLayers - 1;
  int64_t capacity, columns, n_pages;
  std::vector<int32_t> table;  // (B, columns)
  std::unique_ptr<Memory> table_memory, page_memory;
};

/// Attention in double precision of T queries per sequence, each of which sees the positions before it and
/// its own: q (T, Hq, D), k and v (n, H, D), whose last T are the queries' own.
struct Reference {
  int heads = 0, kv_heads = 0, dim = 0;
  double scale = 0, softcap = 0;
  int64_t window = 0;
  const float* sinks = nullptr;
};
std::vector<double> attend(const Reference& how, int64_t tokens, const float* q, const std::vector<float>& k,
                           const std::vector<float>& v);

/// |got - want| / |want|; NaN where anything is NaN.
double distance(const std::vector<float>& got, const std::vector<double>& want);

}  // namespace blockgtq::test
