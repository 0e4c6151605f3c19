#include "samples.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include "store/map_file.h"
#include "store/stats_file.h"

/// HDF5 loses memory over files that it cannot write or that are damaged; the address sanitizer is not to
/// count that.
extern "C" const char* __lsan_default_suppressions() {
  return "leak:libhdf5\n";
}

namespace blockgtq {

TempFolder::TempFolder() {
  std::string name = (fs::temp_directory_path() / "blockgtq-store-XXXXXX").string();
  if (!mkdtemp(name.data())) throw std::runtime_error("mkdtemp");
  path = name;
}
TempFolder::~TempFolder() {
  std::error_code ignored;
  fs::remove_all(path, ignored);
}

double Numbers::next() {  // splitmix64
  uint64_t z = state += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return double((z ^ (z >> 31)) >> 11) * 0x1p-52 - 1;
}

AttentionShape sample_shape() {
  AttentionShape shape;
  shape.n_layers = 2;
  shape.n_heads = 4;
  shape.n_kv_heads = 2;
  shape.v_dim = 3;
  shape.layout = {8, 6, Pairing::interleaved};
  shape.ropes[0].inv_freq = {1, 0.1, 1 / 3.0};
  shape.ropes[0].inv_freq_raw = {1, 0.2, 1e-300};
  shape.ropes[0].attention_factor = 1.25;
  shape.modules = {"model.layers.0.self_attn", "transformer.couche\xc3\xa9.1"};
  return shape;
}

Provenance sample_provenance() {  // neither sorted nor unique, one value empty, one long
  return {{"model", "tiny"}, {"command", "calibrate -m tiny"}, {"a", ""}, {"model", std::string(5000, 'x')}};
}

BitMap sample_map() {
  BitMap map;
  map.shape = sample_shape();
  map.min_bits = 1;
  map.max_bits = 8;
  map.seed = UINT64_MAX;
  map.signature = "s\xc3\xafgnature";
  map.provenance = sample_provenance();
  for (double e : Numbers{}.array<double>(16)) map.energy.push_back(e * e);
  for (double average : {2.0, 2.5}) {
    Budget budget{average, {}};
    for (int i = 0; i < 16; ++i) budget.bits.push_back(uint8_t(1 + (i + int(2 * average)) % 8));
    budget.product_bits.assign(budget.bits.rbegin(), budget.bits.rend());
    for (int i = 0; i < 16; ++i) budget.key_bits.push_back(uint8_t(i % 9));  // (L, H, 4)
    budget.value_bits = {0, 8, 3, uint8_t(average)};                         // (L, H, 1)
    map.budgets.push_back(budget);
  }
  Numbers numbers{7};
  for (int i = 0; i < 4; ++i) {
    HeadCalibration head;
    for (double x : numbers.array<double>(4))
      head.q_energy.push_back(x * x), head.k_energy.push_back(2 * x * x);
    head.k_mean = numbers.array<double>(8);
    head.k_spectrum = {9, 8, 7, 6, 5, 4, 3, 0};
    head.k_forward = numbers.array<float>(64);
    head.k_backward = numbers.array<float>(64);
    head.v_mean = numbers.array<double>(3);
    head.v_spectrum = {3, 2, 0};
    head.v_forward = numbers.array<float>(9);
    head.v_backward = numbers.array<float>(9);
    head.k_centres = numbers.array<float>(2 * 8);
    head.v_centres = numbers.array<float>(2 * 3);
    map.calibration.push_back(head);
  }
  map.choices = {
      {Side::keys,
       2,
       2048,
       {{"tq-mse", Code::scalar, 40, 0.75, 1 / 3.0}, {"block-gtq-cb", Code::trellis, 44.5, 0.1, 0.01}},
       1,
       {}},
      {Side::values, 2, 2048, {{"tq-mse", Code::scalar, 16, 0.5, 0.02}}, 0, {}}};
  return map;
}

Stats sample_stats() {
  Stats stats;
  stats.shape = sample_shape();
  stats.first_chunk = 3;
  stats.run_chunks = 9;
  stats.n_parts = 3;
  stats.chunk_tokens = {256, 256, 256, 256, 17};  // chunks 3..7: dyadic nodes [3,4) [4,8)
  stats.signature = "abc";
  stats.provenance = sample_provenance();
  Numbers numbers;
  for (int l = 0; l < 2; ++l) {
    LayerStats layer;
    for (double x : numbers.array<double>(5 * 2 * 4)) layer.q2.push_back(x * x);
    for (double x : numbers.array<double>(5 * 2 * 4)) layer.k2.push_back(x * x);
    layer.k_sum = numbers.array<double>(5 * 2 * 8);
    layer.kk.set_nodes({{3, 1, numbers.array<double>(2 * 8 * 8)}, {4, 4, numbers.array<double>(2 * 8 * 8)}});
    layer.v_sum = numbers.array<double>(5 * 2 * 3);
    layer.vv.set_nodes({{3, 1, numbers.array<double>(2 * 3 * 3)}, {4, 4, numbers.array<double>(2 * 3 * 3)}});
    layer.output = numbers.array<double>(2 * 3 * 3);
    layer.k_sample = numbers.array<float>(7 * 2 * 8);
    layer.v_sample = numbers.array<float>(7 * 2 * 3);
    stats.layers.push_back(layer);
  }
  return stats;
}

ActsHeader sample_acts(ActsType type, int64_t n_tokens) {
  ActsHeader header;
  header.shape = sample_shape();
  header.n_tokens = n_tokens;
  header.chunk = 0;
  header.type = type;
  for (int64_t t = 0; t < n_tokens; ++t) header.tokens.push_back(int32_t(t * 7919 % 151936));
  header.output = {Numbers{}.array<double>(2 * 3 * 3), Numbers{2}.array<double>(2 * 3 * 3)};
  header.signature = "def";
  header.provenance = sample_provenance();
  return header;
}

Acts sample_activations(const ActsHeader& header) {
  Acts acts;
  Numbers numbers;
  const AttentionShape& shape = header.shape;
  const size_t n = size_t(header.n_tokens);
  for (int l = 0; l < shape.n_layers; ++l) {
    acts.q.push_back(numbers.array<float>(n * shape.n_heads * shape.layout.head_dim));
    acts.k.push_back(numbers.array<float>(n * shape.n_kv_heads * shape.layout.head_dim));
    acts.v.push_back(numbers.array<float>(n * shape.n_kv_heads * shape.v_dim));
  }
  return acts;
}

void write_acts(const fs::path& path, const ActsHeader& header, const Acts& acts) {
  ActsWriter writer(path, header);
  for (int l = 0; l < header.shape.n_layers; ++l)
    writer.write_layer(l, acts.q[l].data(), acts.k[l].data(),
                       header.shape.v_dim > 0 ? acts.v[l].data() : nullptr);
  writer.finish();
}

PackedHeader sample_packed(int64_t n_tokens) {
  PackedHeader header;
  header.shape = sample_shape();
  header.n_tokens = n_tokens;
  header.method = "block-gtq";
  header.average_bits = 2.5;
  header.bits = sample_map().budgets[1].bits;
  header.map_signature = "map";
  header.signature = "acts";
  header.provenance = sample_provenance();
  return header;
}

void write_packed(const fs::path& path, const PackedHeader& header, size_t code_bytes) {
  PackedWriter writer(path, header);
  for (int l = 0; l < header.shape.n_layers; ++l)
    for (int h = 0; h < header.shape.n_kv_heads; ++h) {
      std::vector<uint8_t> codes(size_t(header.n_tokens) * code_bytes);
      for (size_t i = 0; i < codes.size(); ++i) codes[i] = uint8_t(i * 31 + size_t(l) * 7 + size_t(h));
      writer.write_head(l, h, codes.data(), code_bytes);
    }
  writer.finish();
}

const std::vector<std::string>& kinds() {
  static const std::vector<std::string> all = {"acts", "stats", "map", "packed"};
  return all;
}

void write_kind(const std::string& kind, const fs::path& path) {
  if (kind == "acts") {
    const ActsHeader header = sample_acts(ActsType::bf16, 5);
    write_acts(path, header, sample_activations(header));
  } else if (kind == "stats") {
    write_stats(path, sample_stats());
  } else if (kind == "map") {
    write_map(path, sample_map());
  } else {
    write_packed(path, sample_packed(5), 7);
  }
}

void read_kind(const std::string& kind, const fs::path& path) {
  if (kind == "acts") {
    const ActsReader reader(path);
    for (int l = 0; l < reader.header().shape.n_layers; ++l) reader.read_layer(l);
  } else if (kind == "stats") {
    read_stats(path);
  } else if (kind == "map") {
    read_map(path);
  } else {
    const PackedReader reader(path);
    const AttentionShape& shape = reader.header().shape;
    for (int l = 0; l < shape.n_layers; ++l)
      for (int h = 0; h < shape.n_kv_heads; ++h) reader.read_head(l, h);
  }
}

std::string bytes_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void put_bytes(const fs::path& path, const std::string& bytes) {
  fs::remove(path);  // some file systems wait for the disk when a file is truncated and written again
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), std::streamsize(bytes.size()));
}

int in_child(const std::function<int()>& body) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child < 0) throw std::runtime_error("fork");
  if (child == 0) {
    int status = 250;
    try {
      status = body();
    } catch (const std::exception& e) {
      std::fprintf(stderr, "in a child: %s\n", e.what());
    }
    std::exit(status);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

}  // namespace blockgtq
