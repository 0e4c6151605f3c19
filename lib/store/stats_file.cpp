// STATS.h5, schema "blockgtq.stats", version 2 (1 has neither run_chunks nor n_parts). Every sum is float64
// and
// reads back bit for bit. Besides what preamble.h lists it has:
//   attributes  first_chunk
//               run_chunks (chunks of the whole run; 0: not known)
//               n_parts (equal ranges that the run was cut into; 1: in one piece; 0: not known)
//   datasets    chunk_tokens (n_chunks) int64, and in the group layerNN of every layer:
//               q2, k2   (n_chunks, H, B)
//               k_sum    (n_chunks, H, D)
//               kk_first, kk_count (n_nodes) int64, kk (n_nodes, H, D, D): partial sums of k k^T over the
//               chunks [kk_first, kk_first + kk_count); absent in older files
//   only where v_dim > 0:
//               v_sum    (n_chunks, H, Dv)
//               vv_first, vv_count (n_nodes) int64, vv (n_nodes, H, Dv, Dv): partial sums of v v^T over the
//               chunks [vv_first, vv_first + vv_count)
//   only where the weights were known:
//               output (H, Dv, Dv): sum over the group's query heads of W_o^T W_o
//   absent in older files:
//               k_sample (n_sample, H, D), v_sample (n_sample, H, Dv) float32: a sample of keys and values,
//               rounded to fp16
#include "store/stats_file.h"

#include <limits>

#include "base/error.h"
#include "store/preamble.h"

namespace blockgtq {
namespace {

constexpr const char* kSchema = "blockgtq.stats";
constexpr int64_t kVersion = 2;
constexpr uint64_t kMaxChunks = kMaxStoredTokens;
constexpr uint64_t kMaxNodes = 128;  // the most dyadic intervals that a range of 64-bit numbers needs
constexpr double kAnything = -std::numeric_limits<double>::infinity();

/// Sizes that the arrays of one file share.
struct Sizes {
  uint64_t n_chunks, heads, blocks, head_dim, v_dim;
  explicit Sizes(const Stats& s)
      : n_chunks(uint64_t(s.n_chunks())),
        heads(uint64_t(s.shape.n_kv_heads)),
        blocks(uint64_t(s.shape.layout.n_blocks())),
        head_dim(uint64_t(s.shape.layout.head_dim)),
        v_dim(uint64_t(s.shape.v_dim)) {}
  Dims per_block() const { return {n_chunks, heads, blocks}; }
  Dims per_coordinate() const { return {n_chunks, heads, head_dim}; }
  Dims per_value() const { return {n_chunks, heads, v_dim}; }
  Dims per_head() const { return {heads, v_dim, v_dim}; }
};

void write_array(H5Output& file, const std::string& name, const Dims& dims,
                 const std::vector<double>& values) {
  uint64_t n = 1;
  for (uint64_t d : dims) n *= d;
  check(values.size() == n, "size of a statistic");
  file.write(name, dims, values.data());
}

void write_sample(H5Output& file, const std::string& name, uint64_t heads, uint64_t dim,
                  const std::vector<float>& values) {
  if (!values.empty()) file.write(name, {values.size() / (heads * dim), heads, dim}, values.data());
}

std::vector<float> read_sample(const H5Input& file, const std::string& name, uint64_t heads, uint64_t dim) {
  if (!file.has(name)) return {};
  const uint64_t n = file.dims(name, 3)[0];
  if (n > uint64_t(kMostSampleTokens))
    fail_input("{}: {}: {} tokens, allowed {}", file.path(), name, n, kMostSampleTokens);
  std::vector<float> values = file.read<float>(name, {n, heads, dim});
  check_finite(file, name, {values.begin(), values.end()}, kAnything);
  return values;
}

void write_nodes(H5Output& file, const std::string& name, uint64_t heads, uint64_t dim,
                 const DyadicSum& sum) {
  std::vector<int64_t> first, count;
  std::vector<double> values;
  for (const DyadicSum::Node& node : sum.nodes()) {
    first.push_back(node.first);
    count.push_back(node.count);
    values.insert(values.end(), node.value.begin(), node.value.end());
  }
  file.write(name + "_first", {first.size()}, first.data());
  file.write(name + "_count", {count.size()}, count.data());
  write_array(file, name, {first.size(), heads, dim, dim}, values);
}

std::vector<double> read_array(const H5Input& file, const std::string& name, const Dims& dims, double least) {
  std::vector<double> values = file.read<double>(name, dims);
  check_finite(file, name, values, least);
  return values;
}

/// The nodes of one layer: they must be dyadic and adjacent, and together be exactly the chunks of the file.
std::vector<DyadicSum::Node> read_nodes(const H5Input& file, const std::string& where, const Sizes& sizes,
                                        uint64_t dim, int64_t first_chunk) {
  const uint64_t n = file.dims(where + "_first", 1)[0];
  if (n > kMaxNodes) fail_input("{}: {}: {} nodes, allowed {}", file.path(), where, n, kMaxNodes);
  const std::vector<int64_t> first = file.read<int64_t>(where + "_first", {n});
  const std::vector<int64_t> count = file.read<int64_t>(where + "_count", {n});
  const std::vector<double> values = read_array(file, where, {n, sizes.heads, dim, dim}, kAnything);
  const uint64_t size = sizes.heads * dim * dim;
  const int64_t end = first_chunk + int64_t(sizes.n_chunks);
  std::vector<DyadicSum::Node> nodes;
  int64_t next = first_chunk;
  for (uint64_t i = 0; i < n; ++i) {
    const bool dyadic = count[i] > 0 && (count[i] & (count[i] - 1)) == 0 && first[i] % count[i] == 0;
    if (!dyadic || first[i] != next || count[i] > end - next)
      fail_input("{}: {}: node of {} chunks from {}, allowed powers of two that cover {} to {}", file.path(),
                 where, count[i], first[i], first_chunk, end - 1);
    nodes.push_back({first[i], count[i], {values.begin() + i * size, values.begin() + (i + 1) * size}});
    next += count[i];
  }
  if (next != end) fail_input("{}: {}: nodes end at chunk {}, allowed {}", file.path(), where, next, end);
  return nodes;
}

/// Reads how many chunks the whole run has, and how it was cut.
void read_run(const H5Input& file, Stats& stats) {
  stats.run_chunks = file.get_int("run_chunks", 0, kMaxStoredTokens);
  stats.n_parts = file.get_int("n_parts", 0, stats.run_chunks);
  const int64_t end = stats.first_chunk + stats.n_chunks();
  if (stats.run_chunks > 0 && stats.run_chunks < end)
    fail_input("{}: run_chunks: {}, allowed from {}: chunks {} to {} are here", file.path(), stats.run_chunks,
               end, stats.first_chunk, end - 1);
}

LayerStats read_layer(const H5Input& file, const std::string& layer, const Sizes& sizes,
                      int64_t first_chunk) {
  LayerStats stats;
  stats.q2 = read_array(file, layer + "/q2", sizes.per_block(), 0);
  stats.k2 = read_array(file, layer + "/k2", sizes.per_block(), 0);
  stats.k_sum = read_array(file, layer + "/k_sum", sizes.per_coordinate(), kAnything);
  stats.v_sum = read_array(file, layer + "/v_sum", sizes.per_value(), kAnything);
  if (file.has(layer + "/output"))
    stats.output = read_array(file, layer + "/output", sizes.per_head(), kAnything);
  if (file.has(layer + "/kk"))
    stats.kk.set_nodes(read_nodes(file, layer + "/kk", sizes, sizes.head_dim, first_chunk));
  if (sizes.v_dim > 0 && sizes.n_chunks > 0)
    stats.vv.set_nodes(read_nodes(file, layer + "/vv", sizes, sizes.v_dim, first_chunk));
  stats.k_sample = read_sample(file, layer + "/k_sample", sizes.heads, sizes.head_dim);
  if (sizes.v_dim > 0) stats.v_sample = read_sample(file, layer + "/v_sample", sizes.heads, sizes.v_dim);
  if (sizes.v_dim > 0 && stats.v_sample.size() * sizes.head_dim != stats.k_sample.size() * sizes.v_dim)
    fail_input("{}: {}/v_sample: another number of tokens than k_sample has", file.path(), layer);
  return stats;
}

}  // namespace

void write_stats(const fs::path& path, const Stats& stats) {
  const Sizes sizes(stats);
  check(stats.layers.size() == size_t(stats.shape.n_layers), "statistics of every layer");
  H5Output file(path, kSchema, version_for(stats.shape, kVersion));
  write_preamble(file, stats.shape, stats.signature, stats.provenance);
  file.put_int("first_chunk", stats.first_chunk);
  file.put_int("run_chunks", stats.run_chunks);
  file.put_int("n_parts", stats.n_parts);
  file.write("chunk_tokens", {sizes.n_chunks}, stats.chunk_tokens.data());
  for (int l = 0; l < stats.shape.n_layers; ++l) {
    const LayerStats& s = stats.layers[l];
    const std::string layer = layer_name(l);
    file.group(layer);
    write_array(file, layer + "/q2", sizes.per_block(), s.q2);
    write_array(file, layer + "/k2", sizes.per_block(), s.k2);
    write_array(file, layer + "/k_sum", sizes.per_coordinate(), s.k_sum);
    write_array(file, layer + "/v_sum", sizes.per_value(), s.v_sum);
    if (!s.output.empty()) write_array(file, layer + "/output", sizes.per_head(), s.output);
    write_sample(file, layer + "/k_sample", sizes.heads, sizes.head_dim, s.k_sample);
    write_sample(file, layer + "/v_sample", sizes.heads, sizes.v_dim, s.v_sample);
    if (!s.kk.nodes().empty()) write_nodes(file, layer + "/kk", sizes.heads, sizes.head_dim, s.kk);
    if (sizes.v_dim > 0) write_nodes(file, layer + "/vv", sizes.heads, sizes.v_dim, s.vv);
  }
  file.finish();
}

Stats read_stats(const fs::path& path) {
  const H5Input file(path, kSchema, kSpecialVersion);
  Preamble preamble = read_preamble(file);
  Stats stats;
  stats.shape = std::move(preamble.shape);
  stats.signature = std::move(preamble.signature);
  stats.provenance = std::move(preamble.provenance);
  stats.first_chunk = file.get_int("first_chunk", 0, kMaxStoredTokens);
  if (file.has("chunk_tokens")) {
    const uint64_t n = file.dims("chunk_tokens", 1)[0];
    if (n > kMaxChunks) fail_input("{}: chunk_tokens: {} chunks, allowed {}", file.path(), n, kMaxChunks);
    stats.chunk_tokens = file.read<int64_t>("chunk_tokens", {n});
    for (int64_t tokens : stats.chunk_tokens)
      if (tokens < 1 || tokens > kMaxStoredTokens)
        fail_input("{}: chunk_tokens: {}, allowed 1 to {}", file.path(), tokens, kMaxStoredTokens);
  }
  if (file.get_int("schema_version", 1, kSpecialVersion) >= 2) read_run(file, stats);
  const Sizes sizes(stats);
  for (int l = 0; l < stats.shape.n_layers; ++l)
    stats.layers.push_back(read_layer(file, layer_name(l), sizes, stats.first_chunk));
  return stats;
}

}  // namespace blockgtq
