// Files that are sound HDF5 but say something that no file of ours may say.
#include <sys/stat.h>

#include <cmath>
#include <limits>

#include "base/error.h"
#include "catch.h"
#include "samples.h"
#include "store/h5_output.h"
#include "store/map_file.h"
#include "store/schema.h"
#include "store/stats_file.h"

using namespace blockgtq;

namespace {

/// The message with which `read` refuses; empty when it does not.
std::string refusal(const std::function<void()>& read) {
  try {
    read();
  } catch (const Error& e) {
    CHECK((e.code == Exit::input));
    CHECK(std::string(e.what()).find('\n') == std::string::npos);
    return e.what();
  }
  return "";
}

std::string map_refusal(const std::function<void(BitMap&)>& spoil) {
  const TempFolder folder;
  BitMap map = sample_map();
  spoil(map);
  write_map(folder / "map.h5", map);
  return refusal([&] { read_map(folder / "map.h5"); });
}

std::string stats_refusal(const std::function<void(Stats&)>& spoil) {
  const TempFolder folder;
  Stats stats = sample_stats();
  spoil(stats);
  write_stats(folder / "stats.h5", stats);
  return refusal([&] { read_stats(folder / "stats.h5"); });
}

/// A map of one layer, one KV head and these sizes.
BitMap map_of(int n_layers, int n_heads, int head_dim) {
  BitMap map = sample_map();
  map.shape.n_layers = n_layers;
  map.shape.n_heads = n_heads;
  map.shape.n_kv_heads = 1;
  map.shape.layout = {head_dim, 2, Pairing::half};
  map.shape.ropes[0].inv_freq = map.shape.ropes[0].inv_freq_raw = {1};
  map.shape.modules.assign(n_layers, "m");
  map.energy.assign(size_t(n_layers) * map.n_blocks(), 1);
  map.budgets = {{3, std::vector<uint8_t>(map.energy.size(), 3)}};
  map.calibration.clear();
  return map;
}

/// A map written field by field. An edit may write one of the fields itself and return true.
using Edit = std::function<bool(H5Output&, const std::string& field)>;
std::string raw_refusal(const Edit& edit, const char* schema = "blockgtq.map") {
  const TempFolder folder;
  {
    H5Output file(folder / "map.h5", schema);
    const auto put = [&](const std::string& field, const std::function<void()>& usual) {
      if (!edit(file, field)) usual();
    };
    const auto integer = [&](const std::string& field, int64_t value) {
      put(field, [&] { file.put_int(field, value); });
    };
    const auto text = [&](const std::string& field, const std::string& value) {
      put(field, [&] { file.put_text(field, value); });
    };
    integer("n_layers", 1);
    integer("n_heads", 1);
    integer("n_kv_heads", 1);
    integer("v_dim", 0);
    integer("head_dim", 4);
    integer("rotary_dim", 4);
    text("pairing", "half");
    text("signature", "s");
    text("method", "block-gtq");
    integer("min_bits", 1);
    integer("max_bits", 8);
    put("seed", [&] { file.put_u64("seed", 42); });
    text("rotation", "haar-qr-pcg64");
    text("group_seed", "seed + bits");
    text("codebook", "lloyd-max-normal-100");
    text("norms", "fp16 per group");
    text("pack_order", "groups ascending bits, lsb first");
    const double two[] = {1, 0.5}, average[] = {3};
    const uint8_t bits[] = {3, 3};
    const int32_t coords[] = {0, 2, 1, 3};
    put("inv_freq", [&] { file.write("inv_freq", {2}, two); });
    put("inv_freq_raw", [&] { file.write("inv_freq_raw", {2}, two); });
    put("modules", [&] { file.write_strings("modules", {1}, {"m"}); });
    put("average_bits", [&] { file.write("average_bits", {1}, average); });
    put("bits", [&] { file.write("bits", {1, 1, 1, 2}, bits); });
    put("energy", [&] { file.write("energy", {1, 1, 2}, two); });
    put("coords", [&] { file.write("coords", {2, 2}, coords); });
    file.finish();
  }
  return refusal([&] { read_map(folder / "map.h5"); });
}

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

}  // namespace

TEST_CASE("what is not one of our files", "[store][bad]") {
  const TempFolder folder;
  const fs::path path = folder / "file.h5";
  CHECK_THAT(refusal([&] { read_schema(path); }), ContainsSubstring("No such file"));
  CHECK_THAT(refusal([&] { read_schema(folder.path); }), ContainsSubstring("not a regular file"));
  REQUIRE(mkfifo((folder / "fifo").c_str(), 0600) == 0);
  CHECK_THAT(refusal([&] { read_schema(folder / "fifo"); }), ContainsSubstring("not a regular file"));
  for (const std::string& bytes : {std::string(), std::string("{}"), std::string("\x89HDF\r\n\x1a\n"),
                                   std::string("\x89HDF\r\n\x1a\n") + std::string(4096, '\0')}) {
    put_bytes(path, bytes);
    CHECK_THAT(refusal([&] { read_schema(path); }), ContainsSubstring("file.h5: not a complete HDF5 file"));
  }
}

TEST_CASE("a file of another kind, or never finished", "[store][bad]") {
  const TempFolder folder;
  for (const std::string& kind : kinds()) {
    write_kind(kind, folder / "file.h5");
    for (const std::string& other : kinds())
      if (other != kind)
        CHECK_THAT(refusal([&] { read_kind(other, folder / "file.h5"); }),
                   ContainsSubstring("schema: blockgtq." + kind + ", allowed blockgtq." + other));
  }
  {
    const ActsHeader header = sample_acts(ActsType::f32, 3);
    const Acts acts = sample_activations(header);
    ActsWriter writer(folder / "half.h5", header);
    writer.write_layer(0, acts.q[0].data(), acts.k[0].data(), acts.v[0].data());
    CHECK_THROWS_AS(writer.finish(), std::logic_error);  // layer 1 is missing
    CHECK_THROWS_AS(writer.write_layer(0, acts.q[0].data(), acts.k[0].data(), acts.v[0].data()),
                    std::logic_error);
    CHECK_THROWS_AS(writer.write_layer(2, acts.q[0].data(), acts.k[0].data(), acts.v[0].data()),
                    std::logic_error);
    CHECK_THROWS_AS(writer.write_layer(1, acts.q[0].data(), acts.k[0].data(), nullptr), std::logic_error);
  }
  CHECK_THAT(refusal([&] { read_schema(folder / "half.h5"); }),
             ContainsSubstring("half.h5: was never completed"));
  CHECK_THAT(refusal([&] { ActsReader reader(folder / "half.h5"); }),
             ContainsSubstring("was never completed"));
}

TEST_CASE("limits of the shape at N and N + 1", "[store][bad]") {
  const auto read = [](int n_layers, int n_heads, int head_dim) {
    return map_refusal([&](BitMap& m) { m = map_of(n_layers, n_heads, head_dim); });
  };
  CHECK(read(1, 1, 2) == "");
  CHECK(read(1024, 1, 2) == "");
  CHECK_THAT(read(1025, 1, 2), ContainsSubstring("n_layers: 1025, allowed 1 to 1024"));
  CHECK(read(1, 1024, 2) == "");
  CHECK_THAT(read(1, 1025, 2), ContainsSubstring("n_heads: 1025, allowed 1 to 1024"));
  CHECK(read(1, 1, 512) == "");
  CHECK_THAT(read(1, 1, 514), ContainsSubstring("head_dim: 514, allowed 2 to 512"));
}

TEST_CASE("values of a map that are out of range", "[store][bad][map]") {
  const std::vector<std::pair<std::function<void(BitMap&)>, std::string>> cases = {
      {[](BitMap&) {}, ""},
      {[](BitMap& m) {
         m.shape.n_kv_heads = 8, m.energy.resize(64), m.budgets.clear(), m.calibration.clear();
       },
       "n_kv_heads: 8, allowed 1 to 4"},
      {[](BitMap& m) {
         m.shape.n_kv_heads = 3, m.energy.resize(24), m.budgets.clear(), m.calibration.clear();
       },
       "n_kv_heads: 3, allowed divisors"},
      {[](BitMap& m) { m.shape.v_dim = 512, m.calibration.clear(); }, ""},
      {[](BitMap& m) { m.shape.v_dim = 513, m.calibration.clear(); }, "v_dim: 513"},
      {[](BitMap& m) { m.shape.v_dim = -1, m.calibration.clear(); }, "v_dim: -1"},
      {[](BitMap& m) { m.shape.layout.head_dim = 9, m.calibration.clear(); }, "head_dim: 9, allowed even"},
      {[](BitMap& m) { m.shape.layout.rotary_dim = 7, m.calibration.clear(); },
       "rotary_dim: 7, allowed even"},
      {[](BitMap& m) { m.shape.ropes[0].inv_freq[1] = 0; },
       "inv_freq: 0 at 1, allowed finite numbers above 0"},
      {[](BitMap& m) { m.shape.ropes[0].inv_freq[1] = -1; }, "inv_freq: -1 at 1"},
      {[](BitMap& m) { m.shape.ropes[0].inv_freq_raw[2] = kInf; }, "inv_freq_raw: inf at 2"},
      {[](BitMap& m) { m.method = "other"; }, "method: other"},
      {[](BitMap& m) { m.min_bits = 0; }, "min_bits: 0, allowed 1 to 8"},
      {[](BitMap& m) { m.max_bits = 9; }, "max_bits: 9, allowed 1 to 8"},
      {[](BitMap& m) { m.min_bits = 2, m.max_bits = 1; }, "max_bits: 1, allowed 2 to 8"},
      {[](BitMap& m) { m.energy[3] = 0; }, ""},
      {[](BitMap& m) { m.energy[3] = -1e-300; }, "energy: -1e-300 at 3, allowed finite numbers from 0"},
      {[](BitMap& m) { m.energy[3] = kNan; }, "energy: nan at 3"},
      {[](BitMap& m) { m.energy[3] = kInf; }, "energy: inf at 3"},
      {[](BitMap& m) { m.budgets[1].bits[5] = 0; }, "bits: 0 at 21, allowed 1 to 8"},
      {[](BitMap& m) { m.budgets[1].bits[5] = 9; }, "bits: 9 at 21, allowed 1 to 8"},
      {[](BitMap& m) { m.budgets.pop_back(), m.max_bits = 2; }, "bits: "},
      {[](BitMap& m) {
         for (HeadCalibration& head : m.calibration) head.k_centres.resize(3 * 8);
       },
       "k_centres: 3 centres, allowed powers of two from 2 to 256"},
      {[](BitMap& m) { m.calibration[1].v_centres[2] = float(kNan); }, "v_centres: nan at 8"},
      {[](BitMap& m) { m.budgets[1].product_bits[5] = 9; }, "product_bits: 9 at 21, allowed 1 to 8"},
      {[](BitMap& m) { m.budgets[0].key_bits[3] = 9; }, "key_bits: 9 at 3, allowed 0 to 8"},
      {[](BitMap& m) { m.budgets[0].value_bits[1] = 9; }, "value_bits: 9 at 1, allowed 0 to 8"},
      {[](BitMap& m) { m.calibration[1].k_mean[0] = kNan; }, "k_mean: nan at 8"},
      {[](BitMap& m) { m.calibration[0].q_energy[1] = -1; }, "q_energy: -1 at 1"},
      {[](BitMap& m) { m.calibration[3].v_forward[8] = float(kInf); }, "v_forward: inf at 35"},
      {[](BitMap& m) { m.budgets[1].average_bits = 8.5; }, "average_bits: 8.5, allowed 1 to 8"},
      {[](BitMap& m) { m.budgets[1].average_bits = kNan; }, "average_bits: nan"},
      {[](BitMap& m) { m.choices[0].bits = 9; }, "choice: 9 bits, allowed 1 to 8"},
      {[](BitMap& m) { m.choices[0].n_tokens = 0; }, "choice: 0 tokens"},
      {[](BitMap& m) { m.choices[0].bits = 2.5; }, "choice: tq-mse takes whole bits: 2.5"},
      {[](BitMap& m) { m.choices[0].candidates[1].method = "rule"; }, "choice: rule is no method of keys"},
      {[](BitMap& m) { m.choices[1].candidates[0].method = "kivi"; }, "choice: kivi is no method of values"},
      {[](BitMap& m) { m.choices[0].candidates[1].method = "kivi"; }, "choice: kivi has no trellis codes"},
      {[](BitMap& m) { m.choices[0].candidates[1].kl = kNan; }, "choice: not a list of choices"},
      {[](BitMap& m) { m.budgets[1].average_bits = 2; }, "average_bits: 2, allowed 1 to 8, ascending"},
  };
  for (const auto& [spoil, expected] : cases) {
    CAPTURE(expected);
    const std::string found = map_refusal(spoil);
    if (expected.empty())
      CHECK(found == "");
    else
      CHECK_THAT(found, ContainsSubstring("map.h5: " + expected));
  }
}

TEST_CASE("arrays and attributes of a map of the wrong form", "[store][bad][map]") {
  const float floats[] = {1, 2, 3, 4};
  const double doubles[16] = {1, 0.5};
  const int32_t integers[] = {0, 1, 2, 3};
  const auto absent = [](const std::string& name) -> Edit {
    return [name](H5Output&, const std::string& field) { return field == name; };
  };
  const auto instead = [](const std::string& name, std::function<void(H5Output&)> write) -> Edit {
    return [name, write](H5Output& file, const std::string& field) {
      if (field == name) write(file);
      return field == name;
    };
  };
  CHECK(raw_refusal(absent("")) == "");
  CHECK_THAT(raw_refusal(absent(""), "somebody.else"), ContainsSubstring("schema: somebody.else"));
  for (const char* name : {"inv_freq", "inv_freq_raw", "modules", "bits", "energy", "coords"})
    CHECK_THAT(raw_refusal(absent(name)), ContainsSubstring(std::string("map.h5: ") + name + ": missing"));
  for (const char* name :
       {"n_layers", "head_dim", "pairing", "signature", "method", "min_bits", "seed", "rotation"})
    CHECK_THAT(raw_refusal(absent(name)),
               ContainsSubstring(std::string("attribute ") + name + " is missing"));
  for (const char* name : {"rotation", "group_seed", "codebook", "norms", "pack_order", "pairing"})
    CHECK_THAT(raw_refusal(instead(name, [&](H5Output& f) { f.put_text(name, "other"); })),
               ContainsSubstring(std::string(name) + ": other, allowed "));

  CHECK_THAT(raw_refusal(instead("n_layers", [](H5Output& f) { f.put_text("n_layers", "1"); })),
             ContainsSubstring("attribute n_layers is not the number"));
  CHECK_THAT(raw_refusal(instead("n_layers", [](H5Output& f) { f.put_real("n_layers", 1); })),
             ContainsSubstring("attribute n_layers is not the number"));
  CHECK_THAT(raw_refusal(instead("method", [](H5Output& f) { f.put_int("method", 1); })),
             ContainsSubstring("attribute method is not a text"));
  CHECK_THAT(raw_refusal(instead("energy",
                                 [&](H5Output& f) {
                                   f.write("energy", {1, 1, 2}, floats);
                                 })),
             ContainsSubstring("energy: not of the number type"));
  CHECK_THAT(raw_refusal(instead("energy",
                                 [&](H5Output& f) {
                                   f.write("energy", {1, 1, 3}, doubles);
                                 })),
             ContainsSubstring("energy: 1 x 1 x 3, allowed 1 x 1 x 2"));
  CHECK_THAT(raw_refusal(instead("energy", [&](H5Output& f) { f.write("energy", {2}, doubles); })),
             ContainsSubstring("energy: 2, allowed 1 x 1 x 2"));
  CHECK_THAT(raw_refusal(instead("energy", [&](H5Output& f) { f.group("energy"); })),
             ContainsSubstring("energy: cannot be read"));
  CHECK_THAT(raw_refusal(instead("coords",
                                 [&](H5Output& f) {
                                   f.write("coords", {2, 2}, integers);
                                 })),
             ContainsSubstring("coords: other than"));
  CHECK_THAT(raw_refusal(instead("inv_freq", [&](H5Output& f) { f.write("inv_freq", {3}, doubles); })),
             ContainsSubstring("inv_freq: 3 frequencies, allowed 1 to 2"));
  CHECK_THAT(raw_refusal(instead("modules", [&](H5Output& f) { f.write("modules", {1}, integers); })),
             ContainsSubstring("modules: not texts"));
  CHECK_THAT(raw_refusal(instead("modules",
                                 [&](H5Output& f) {
                                   f.write_strings("modules", {2}, {"a", "b"});
                                 })),
             ContainsSubstring("modules: 2, allowed 1"));
  const auto choice = [&](const std::string& text) {
    return raw_refusal([text](H5Output& f, const std::string& field) {
      if (field == "modules") f.write_strings("choice", {1}, {text});
      return false;
    });
  };
  const std::string score =
      R"("method":"tq-mse","code":"scalar","bytes_per_token":40.0,"kl":0.5,"kl_error":0.1)";
  const std::string whole = R"({"side":"keys","bits":3.0,"tokens":9,)" + score +
                            R"(,"tq_mse_kl":0.5,"candidates":[{)" + score + "}]}";
  CHECK(choice("[" + whole + "]") == "");
  CHECK_THAT(choice("[" + whole), ContainsSubstring("map.h5: choice: not valid JSON"));
  for (const char* list : {"3", "[3]", "[{}]"})
    CHECK_THAT(choice(list), ContainsSubstring("map.h5: choice: not a list of choices"));
  const auto with = [&](const std::string& old, const std::string& instead) {
    return choice("[" + std::string(whole).replace(whole.find(old), old.size(), instead) + "]");
  };
  CHECK_THAT(with("tq-mse", "tq-mse-cb"), ContainsSubstring("choice: the method chosen is none of the cand"));
  for (const auto& [old, instead] :
       std::vector<std::pair<std::string, std::string>>{{"\"keys\"", "\"both\""},
                                                        {"\"kl\":0.5", "\"kl\":0.4"},
                                                        {"\"tq_mse_kl\":0.5", "\"tq_mse_kl\":0.4"}})
    CHECK_THAT(with(old, instead), ContainsSubstring("choice: other than its candidates say"));

  CHECK_THAT(raw_refusal([](H5Output& f, const std::string& field) {
               if (field == "modules") f.write_strings("provenance", {1, 3}, {"a", "b", "c"});
               return false;
             }),
             ContainsSubstring("provenance: 1 x 3"));
}

TEST_CASE("values of statistics that are out of range", "[store][bad][stats]") {
  const auto nodes = [](Stats& s, int64_t first, int64_t count) {
    std::vector<DyadicSum::Node> all = s.layers[1].vv.nodes();
    all[1].first = first;
    all[1].count = count;
    s.layers[1].vv.set_nodes(all);
  };
  const std::vector<std::pair<std::function<void(Stats&)>, std::string>> cases = {
      {[](Stats&) {}, ""},
      {[](Stats& s) { s.first_chunk = -1; }, "first_chunk: -1"},
      {[](Stats& s) { s.run_chunks = 8; }, ""},
      {[](Stats& s) { s.run_chunks = 7; }, "run_chunks: 7, allowed from 8: chunks 3 to 7 are here"},
      {[](Stats& s) { s.run_chunks = -1; }, "run_chunks: -1"},
      {[](Stats& s) { s.n_parts = 10; }, "n_parts: 10, allowed 0 to 9"},
      {[](Stats& s) { s.first_chunk = 0; }, "layer00/kk: node of 1 chunks from 3"},
      {[](Stats& s) { s.chunk_tokens[2] = 0; }, "chunk_tokens: 0, allowed 1 to"},
      {[](Stats& s) { s.chunk_tokens[2] = 1 << 30; }, ""},
      {[](Stats& s) { s.chunk_tokens[2] = (1 << 30) + 1; }, "chunk_tokens: 1073741825"},
      {[](Stats& s) { s.layers[1].q2[7] = -1; }, "layer01/q2: -1 at 7"},
      {[](Stats& s) { s.layers[1].k2[7] = kInf; }, "layer01/k2: inf at 7"},
      {[](Stats& s) { s.layers[1].k_sum[7] = kNan; }, "layer01/k_sum: nan at 7, allowed finite numbers"},
      {[](Stats& s) { s.layers[0].v_sum[7] = -kInf; }, "layer00/v_sum: -inf at 7"},
      {[&](Stats& s) { nodes(s, 4, 3); }, "layer01/vv: node of 3 chunks from 4"},
      {[&](Stats& s) { nodes(s, 4, 2); }, "layer01/vv: nodes end at chunk 6, allowed 8"},
      {[&](Stats& s) { nodes(s, 4, 8); }, "layer01/vv: node of 8 chunks from 4"},
      {[&](Stats& s) { nodes(s, 4, 0); }, "layer01/vv: node of 0 chunks from 4"},
      {[&](Stats& s) { nodes(s, 4, INT64_MIN); }, "layer01/vv: node of -9223372036854775808 chunks"},
      {[&](Stats& s) { nodes(s, 8, 4); }, "layer01/vv: node of 4 chunks from 8"},
      {[](Stats& s) { s.layers[1].k_sample[3] = float(kInf); }, "layer01/k_sample: inf at 3"},
      {[](Stats& s) { s.layers[0].v_sample.resize(6 * 2 * 3); },
       "layer00/v_sample: another number of tokens than k_sample has"},
      {[](Stats& s) { s.layers[0].k_sample.resize(size_t(kMostSampleTokens + 1) * 2 * 8); },
       "layer00/k_sample: 16385 tokens, allowed 16384"},
  };
  for (const auto& [spoil, expected] : cases) {
    CAPTURE(expected);
    const std::string found = stats_refusal(spoil);
    if (expected.empty())
      CHECK(found == "");
    else
      CHECK_THAT(found, ContainsSubstring("stats.h5: " + expected));
  }
}

TEST_CASE("values of activations and packed keys that are out of range", "[store][bad]") {
  const TempFolder folder;
  const auto acts = [&](const std::function<void(ActsHeader&)>& spoil) {
    ActsHeader header = sample_acts(ActsType::f32, 3);
    spoil(header);
    ActsHeader sizes = sample_acts(ActsType::f32, 3);
    write_acts(folder / "acts.h5", header, sample_activations(sizes));
    return refusal([&] { ActsReader reader(folder / "acts.h5"); });
  };
  CHECK(acts([](ActsHeader&) {}) == "");
  CHECK_THAT(acts([](ActsHeader& h) { h.tokens[1] = -1; }), ContainsSubstring("tokens: -1"));
  CHECK_THAT(acts([](ActsHeader& h) { h.chunk = -1; }), ContainsSubstring("chunk: -1"));
  CHECK_THAT(acts([](ActsHeader& h) { h.n_tokens = 0, h.tokens.clear(); }), ContainsSubstring("n_tokens: 0"));

  const auto packed = [&](const std::function<void(PackedHeader&)>& spoil, size_t code_bytes) {
    PackedHeader header = sample_packed(3);
    spoil(header);
    write_packed(folder / "packed.h5", header, code_bytes);
    return refusal([&] { read_kind("packed", folder / "packed.h5"); });
  };
  CHECK(packed([](PackedHeader&) {}, 32) == "");  // D float32
  CHECK_THAT(packed([](PackedHeader&) {}, 33),
             ContainsSubstring("layer00/head00/k: 3 x 33, allowed 3 x up to 32"));
  CHECK_THAT(packed([](PackedHeader& h) { h.bits[3] = 9; }, 7), ContainsSubstring("bits: 9"));
  CHECK_THAT(packed([](PackedHeader& h) { h.bits[3] = 0; }, 7), ContainsSubstring("bits: 0"));
  CHECK_THAT(packed([](PackedHeader& h) { h.method = "?"; }, 7), ContainsSubstring("method: ?"));
  CHECK_THAT(packed([](PackedHeader& h) { h.average_bits = kNan; }, 7),
             ContainsSubstring("average_bits: nan"));
  CHECK_THAT(packed([](PackedHeader& h) { h.average_bits = 8.5; }, 7),
             ContainsSubstring("average_bits: 8.5"));
}

TEST_CASE("text that is too long for a file", "[store][bad]") {
  const TempFolder folder;
  BitMap map = sample_map();
  map.provenance = {{"command", std::string(1 << 20, 'x')}};
  write_map(folder / "map.h5", map);
  CHECK(read_map(folder / "map.h5").provenance == map.provenance);
  const auto refused = [&](const std::string& reason) {
    try {
      write_map(folder / "map.h5", map);
      FAIL("written");
    } catch (const Error& e) {
      CHECK((e.code == Exit::output));
      CHECK_THAT(e.what(), ContainsSubstring(reason));
    }
  };
  map.provenance[0].second += 'x';
  refused("1048577 bytes, allowed 1048576");
  map.provenance.clear();
  map.signature.assign(60000, 's');
  write_map(folder / "map.h5", map);
  CHECK(read_map(folder / "map.h5").signature == map.signature);
  map.signature += 's';
  refused("signature: 60001 bytes of text, allowed 60000");
}
