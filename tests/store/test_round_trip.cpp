#include <fcntl.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "base/float16.h"
#include "catch.h"
#include "samples.h"
#include "store/map_file.h"
#include "store/preamble.h"
#include "store/schema.h"
#include "store/stats_file.h"

using namespace blockgtq;

namespace {

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

}  // namespace

TEST_CASE("layers that differ read back as they were written, under a version that older readers refuse",
          "[store][map]") {
  const TempFolder folder;
  BitMap map = sample_map();
  map.shape.ropes.push_back({{0.5, 0.25, 0}, {0.75, 0.5, 0}, 1.5});
  map.shape.rope_of_layer = {1, 0};
  map.shape.windows = {0, 128};
  map.shape.scale = 0.0625;
  map.shape.softcap = 50;
  map.shape.sinks = true;
  write_map(folder / "map.h5", map);
  CHECK(read_map(folder / "map.h5").shape == map.shape);
  const std::string bytes = read_text(folder / "map.h5", 1 << 24);
  CHECK(bytes.find("rope_of_layer") != std::string::npos);
  write_map(folder / "plain.h5", sample_map());
  CHECK(read_text(folder / "plain.h5", 1 << 24).find("rope_of_layer") == std::string::npos);
}

TEST_CASE("a map reads back as it was written", "[store][map]") {
  const TempFolder folder;
  const BitMap map = sample_map();
  write_map(folder / "map.h5", map);
  CHECK(read_schema(folder / "map.h5") == "blockgtq.map");
  const BitMap back = read_map(folder / "map.h5");
  CHECK(back.shape == map.shape);
  CHECK(back.method == "block-gtq");
  CHECK(back.min_bits == 1);
  CHECK(back.max_bits == 8);
  CHECK(back.seed == map.seed);
  CHECK(same_bits(back.energy, map.energy));
  REQUIRE(back.budgets.size() == 2);
  for (int i = 0; i < 2; ++i) {
    CHECK(back.budgets[i].average_bits == map.budgets[i].average_bits);
    CHECK(back.budgets[i].bits == map.budgets[i].bits);
    CHECK(back.budgets[i].product_bits == map.budgets[i].product_bits);
    CHECK(back.budgets[i].key_bits == map.budgets[i].key_bits);
    CHECK(back.budgets[i].value_bits == map.budgets[i].value_bits);
  }
  const bool same_calibration = back.calibration == map.calibration;
  CHECK(same_calibration);
  const bool same_choices = back.choices == map.choices;
  CHECK(same_choices);
  CHECK(back.signature == map.signature);
  CHECK(back.provenance == map.provenance);
}

TEST_CASE("a map without calibration, or without the basis of values", "[store][map]") {
  const TempFolder folder;
  BitMap map = sample_map();
  for (HeadCalibration& head : map.calibration) {
    head.v_spectrum.clear();
    head.v_forward.clear();
    head.v_backward.clear();
  }
  for (Budget& budget : map.budgets) budget.value_bits.clear();
  write_map(folder / "map.h5", map);
  BitMap back = read_map(folder / "map.h5");
  const bool same = back.calibration == map.calibration;
  CHECK(same);
  CHECK(back.budgets[1].value_bits.empty());

  map.calibration.clear();
  write_map(folder / "bare.h5", map);
  back = read_map(folder / "bare.h5");
  CHECK(back.calibration.empty());
  CHECK(back.budgets[1].bits == map.budgets[1].bits);
  CHECK(back.budgets[1].product_bits.empty());
}

TEST_CASE("a map without budgets, provenance or signature", "[store][map]") {
  const TempFolder folder;
  BitMap map = sample_map();
  map.budgets.clear();
  map.provenance.clear();
  map.signature.clear();
  write_map(folder / "map.h5", map);
  const BitMap back = read_map(folder / "map.h5");
  CHECK(back.budgets.empty());
  CHECK(back.provenance.empty());
  CHECK(back.signature.empty());
}

TEST_CASE("a map without a choice has none, and what was chosen is found by side and budget",
          "[store][map]") {
  const TempFolder folder;
  BitMap map = sample_map();
  REQUIRE(map.choice(Side::keys, 2) == &map.choices[0]);
  CHECK(map.choice(Side::keys, 2)->chosen().method == "block-gtq-cb");
  CHECK(map.choice(Side::values, 2) == &map.choices[1]);
  CHECK(map.choice(Side::keys, 2.5) == nullptr);
  map.choices.clear();
  write_map(folder / "map.h5", map);
  CHECK(read_map(folder / "map.h5").choices.empty());
  CHECK(map.choice(Side::keys, 2) == nullptr);
}

TEST_CASE("statistics read back bit for bit", "[store][stats]") {
  const TempFolder folder;
  Stats stats = sample_stats();
  stats.layers[0].k_sum[0] = -0.0;
  stats.layers[0].k_sum[1] = std::numeric_limits<double>::denorm_min();
  stats.layers[0].k_sum[2] = -std::numeric_limits<double>::max();
  stats.layers[1].q2[0] = 0;
  write_stats(folder / "stats.h5", stats);
  CHECK(read_schema(folder / "stats.h5") == "blockgtq.stats");
  const Stats back = read_stats(folder / "stats.h5");
  CHECK(back.shape == stats.shape);
  CHECK(back.first_chunk == 3);
  CHECK(back.run_chunks == 9);
  CHECK(back.n_parts == 3);
  CHECK(back.chunk_tokens == stats.chunk_tokens);
  CHECK(back.n_tokens() == 4 * 256 + 17);
  CHECK(back.signature == stats.signature);
  CHECK(back.provenance == stats.provenance);
  REQUIRE(back.layers.size() == 2);
  for (int l = 0; l < 2; ++l) {
    CHECK(same_bits(back.layers[l].q2, stats.layers[l].q2));
    CHECK(same_bits(back.layers[l].k2, stats.layers[l].k2));
    CHECK(same_bits(back.layers[l].k_sum, stats.layers[l].k_sum));
    CHECK(same_bits(back.layers[l].v_sum, stats.layers[l].v_sum));
    CHECK(same_bits(back.layers[l].output, stats.layers[l].output));
    const bool same_sample = back.layers[l].k_sample == stats.layers[l].k_sample &&
                             back.layers[l].v_sample == stats.layers[l].v_sample;
    CHECK(same_sample);
    for (const auto member : {&LayerStats::kk, &LayerStats::vv}) {
      const auto &found = (back.layers[l].*member).nodes(), &expected = (stats.layers[l].*member).nodes();
      REQUIRE(found.size() == expected.size());
      for (size_t i = 0; i < found.size(); ++i) {
        CHECK(found[i].first == expected[i].first);
        CHECK(found[i].count == expected[i].count);
        CHECK(same_bits(found[i].value, expected[i].value));
      }
    }
  }
}

TEST_CASE("statistics of version 1 do not know the whole run", "[store][stats]") {
  const TempFolder folder;
  AttentionShape shape = sample_shape();
  shape.n_layers = 1;
  shape.v_dim = 0;
  shape.modules.resize(1);
  const std::vector<double> numbers(16, 0.5);
  const int64_t tokens = 256;
  {
    H5Output file(folder / "old.h5", "blockgtq.stats", 1);
    write_preamble(file, shape, "abc", {});
    file.put_int("first_chunk", 2);
    file.write("chunk_tokens", {1}, &tokens);
    file.group("layer00");
    for (const char* name : {"q2", "k2"})
      file.write(std::string("layer00/") + name, {1, 2, 4}, numbers.data());
    file.write("layer00/k_sum", {1, 2, 8}, numbers.data());
    file.finish();
  }
  const Stats old = read_stats(folder / "old.h5");
  CHECK(old.layers[0].k_sum == numbers);
  CHECK(old.run_chunks == 0);
  CHECK(old.n_parts == 0);
  CHECK(missing_chunks(old) == "chunks 0 to 1");
}

TEST_CASE("statistics without values", "[store][stats]") {
  const TempFolder folder;
  Stats stats = sample_stats();
  stats.shape.v_dim = 0;
  for (LayerStats& layer : stats.layers) {
    layer.v_sum.clear();
    layer.v_sample.clear();
    layer.output.clear();
    layer.vv.set_nodes({});
  }
  write_stats(folder / "stats.h5", stats);
  const Stats back = read_stats(folder / "stats.h5");
  CHECK(back.layers[0].v_sum.empty());
  CHECK(back.layers[0].vv.nodes().empty());
  CHECK(same_bits(back.layers[1].k2, stats.layers[1].k2));
}

TEST_CASE("activations read back at the precision asked for", "[store][acts]") {
  const TempFolder folder;
  // 1 MiB holds 8192 rows of q in float32 (4 x 8 x 4 bytes), so that 9000 tokens need a second HDF5 chunk.
  const int64_t n_tokens = GENERATE(1, 257, 9000);
  const ActsType type = GENERATE(ActsType::f32, ActsType::bf16, ActsType::f16);
  const ActsHeader header = sample_acts(type, n_tokens);
  Acts acts = sample_activations(header);
  acts.q[0][0] = -0.0f;
  acts.q[0][1] = 1e-8f;  // below the smallest normal half
  write_acts(folder / "acts.h5", header, acts);
  CHECK(read_schema(folder / "acts.h5") == "blockgtq.acts");

  const ActsReader reader(folder / "acts.h5");
  CHECK(reader.header().shape == header.shape);
  CHECK(reader.header().n_tokens == n_tokens);
  CHECK(reader.header().chunk == 0);
  CHECK((reader.header().type == type));
  CHECK(reader.header().tokens == header.tokens);
  CHECK(reader.header().output == header.output);
  CHECK(reader.header().signature == header.signature);
  CHECK(reader.header().provenance == header.provenance);
  const auto stored = [&](std::vector<float> values) {
    for (float& x : values) {
      if (type == ActsType::bf16) x = from_bf16(to_bf16(x));
      if (type == ActsType::f16) x = from_half(to_half(x));
    }
    return values;
  };
  for (int l : {1, 0}) {
    const ActsReader::Layer back = reader.read_layer(l);
    CHECK(same_bits(back.q, stored(acts.q[l])));
    CHECK(same_bits(back.k, stored(acts.k[l])));
    CHECK(same_bits(back.v, stored(acts.v[l])));
  }
}

TEST_CASE("activations without values; layers in any order", "[store][acts]") {
  const TempFolder folder;
  ActsHeader header = sample_acts(ActsType::f32, 3);
  header.shape.v_dim = 0;
  header.output.clear();
  header.chunk = 256;
  const Acts acts = sample_activations(header);
  {
    ActsWriter writer(folder / "acts.h5", header);
    for (int l : {0, 1}) writer.write_layer(l, acts.q[l].data(), acts.k[l].data(), nullptr);
    writer.finish();
  }
  const ActsReader reader(folder / "acts.h5");
  CHECK(reader.header().chunk == 256);
  CHECK(reader.read_layer(0).v.empty());
  CHECK(same_bits(reader.read_layer(1).k, acts.k[1]));
}

TEST_CASE("packed codes read back", "[store][packed]") {
  const TempFolder folder;
  const PackedHeader header = sample_packed(300);
  write_packed(folder / "packed.h5", header, 7);
  CHECK(read_schema(folder / "packed.h5") == "blockgtq.packed");
  const PackedReader reader(folder / "packed.h5");
  const PackedHeader& back = reader.header();
  CHECK(back.shape == header.shape);
  CHECK(back.n_tokens == 300);
  CHECK(back.method == header.method);
  CHECK(back.average_bits == 2.5);
  CHECK(back.seed == 42);
  CHECK(back.bits == header.bits);
  CHECK(back.map_signature == "map");
  CHECK(back.signature == "acts");
  CHECK(back.provenance == header.provenance);
  for (int l = 0; l < 2; ++l)
    for (int h = 0; h < 2; ++h) {
      const std::vector<uint8_t> codes = reader.read_head(l, h);
      REQUIRE(codes.size() == 300 * 7);
      CHECK(codes[2099] == uint8_t(2099 * 31 + l * 7 + h));
    }
}

TEST_CASE("the same content gives the same bytes", "[store]") {
  const TempFolder folder;
  for (const std::string& kind : kinds()) {
    write_kind(kind, folder / "a.h5");
    // Another path, an earlier longer content, a used heap and a later second: none may show.
    put_bytes(folder / "another-name.h5", std::string(100'000, '\xff'));
    for (const std::string& other : kinds()) write_kind(other, folder / "other.h5");
    struct timespec pause {
      1, 100'000'000
    };
    if (kind == "map") nanosleep(&pause, nullptr);
    write_kind(kind, folder / "another-name.h5");
    CAPTURE(kind);
    CHECK(bytes_of(folder / "a.h5") == bytes_of(folder / "another-name.h5"));
  }
}

TEST_CASE("a lock held by another descriptor does not matter", "[store]") {
  const TempFolder folder;
  for (const std::string& kind : kinds()) {
    put_bytes(folder / "file.h5", "");
    const int fd = ::open((folder / "file.h5").c_str(), O_RDWR);
    REQUIRE(fd >= 0);
    REQUIRE(flock(fd, LOCK_EX | LOCK_NB) == 0);
    CHECK_NOTHROW(write_kind(kind, folder / "file.h5"));
    CHECK_NOTHROW(read_kind(kind, folder / "file.h5"));
    close(fd);
  }
}
