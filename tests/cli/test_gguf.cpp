// A GGUF file wherever a model folder is taken: the same results, and spoiled files refused with one line.
#include <functional>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "hf/gguf_of.h"

namespace blockgtq {
namespace {

using test::GgufBuilder;
using test::raw;
using Json = nlohmann::ordered_json;

/// A map without what tells which file it is from.
Json content(const std::string& map) {
  Json json = Json::parse(good({"export-bitmap", map, "--format", "json", "-o", "-"}).out);
  json.erase("signature");
  json.erase("provenance");
  return json;
}

std::vector<std::string> on(const std::string& model, std::vector<std::string> args) {
  for (const std::string& a : {std::string("-m"), model, std::string("-f"), text("calibration"),
                               std::string("--tokens"), std::string("512"), std::string("-q")})
    args.push_back(a);
  return args;
}

}  // namespace

TEST_CASE("a GGUF file gives what the model's folder gives") {
  TempFolder dir;
  const std::string folder = model("tiny-llama3"), gguf = dir / "m.gguf";
  test::gguf_of(folder).write(gguf);
  const std::vector<std::string> tokenize = {"tokenize", "-f", text("evaluation"), "-m"};
  const auto with = [](std::vector<std::string> args, const std::string& last) {
    args.push_back(last);
    return args;
  };
  CHECK(good(with(tokenize, gguf)).out == good(with(tokenize, folder)).out);
  CHECK(good({"tokenize", "-f", text("evaluation"), "-m", gguf, "--bos", "--tokens", "2"}).out ==
        good({"tokenize", "-f", text("evaluation"), "-m", folder, "--bos", "--tokens", "2"}).out);

  const std::string a = dir / "a.h5", b = dir / "b.h5";
  good(on(folder, {"calibrate", "--bits", "3", "-o", a}));
  good(on(gguf, {"calibrate", "--bits", "3", "-o", b}));
  CHECK(content(a) == content(b));

  SECTION("a map made from one form serves the other") {
    const auto mae = [&](const std::string& model, const std::string& map) {
      return Json::parse(good(on(model, {"eval-logits", "--map", map, "--json", "-"})).out)["layers"];
    };
    const Json want = mae(folder, a);
    CHECK(mae(gguf, a) == want);
    CHECK(mae(folder, b) == want);
  }
  SECTION("its verdict") {
    const Outcome seen = good({"inspect", gguf});
    for (const char* says : {"supported", "llama3", "BF16 38"})
      CHECK_THAT(seen.out, ContainsSubstring(says));
  }
  SECTION("its weights folded are a folder") {
    good({"export-bitmap", b, "--fold", gguf, "-o", dir / "folded"});
    good({"export-bitmap", a, "--fold", folder, "-o", dir / "want"});
    const auto tensors = test::stored_tensors(dir / "folded"), want = test::stored_tensors(dir / "want");
    REQUIRE(tensors.size() == want.size());
    for (const auto& [name, t] : want) {
      CAPTURE(name);
      CHECK(tensors.at(name).bytes == t.bytes);
    }
    CHECK(good(with(tokenize, dir / "folded")).out == good(with(tokenize, folder)).out);
  }
}

TEST_CASE("spoiled GGUF files are refused with one line, and nothing is left") {
  struct Case {
    const char* what;
    std::function<std::string(GgufBuilder)> spoil;  // the bytes of the file
    const char* says;
    int code = 3;
  };
  const auto build = [](const std::function<void(GgufBuilder&)>& change) {
    return [change](GgufBuilder b) {
      change(b);
      return b.bytes();
    };
  };
  const auto bytes = [](const std::function<void(std::string&)>& change) {
    return [change](const GgufBuilder& b) {
      std::string s = b.bytes();
      change(s);
      return s;
    };
  };
  const std::string k = "blk.1.attn_k.weight";
  const std::vector<Case> cases = {
      {"empty", bytes([](std::string& s) { s.clear(); }), "not a GGUF file"},
      {"not GGUF", bytes([](std::string& s) { s[0] = 'X'; }), "not a GGUF file"},
      {"another version", bytes([](std::string& s) { s[4] = 1; }), "version 1"},
      {"truncated in the weights", bytes([](std::string& s) { s.resize(s.size() - 32); }), "past the file"},
      {"truncated in the metadata", bytes([](std::string& s) { s.resize(2000); }), "past the file"},
      {"half", bytes([](std::string& s) { s.resize(s.size() / 2); }), "past the file"},
      {"absurd number of tensors", bytes([](std::string& s) { s.replace(8, 8, raw(UINT64_MAX)); }), "tensor"},
      {"absurd number of keys", bytes([](std::string& s) { s.replace(16, 8, raw(UINT64_MAX)); }), "key"},
      {"absurd length of a key", bytes([](std::string& s) { s.replace(24, 8, raw(UINT64_MAX)); }), "at most"},
      {"a key twice", bytes([](std::string& s) {
         const std::string first = test::raw_string("general.name"), again = test::raw_string("general.type");
         s.replace(s.find(first), first.size(), again);
         s.insert(s.find(again), again + raw(uint32_t(8)) + test::raw_string("model"));
         s.replace(16, 8, raw(*reinterpret_cast<const uint64_t*>(s.data() + 16) + 1));
       }),
       "\"general.type\": there twice"},
      {"overlapping tensors", build([&](GgufBuilder& b) { b.entry(k).offset = 0; }), "inside tensor"},
      {"misaligned tensor", build([&](GgufBuilder& b) { b.entry(k).offset = 33; }), "a multiple of 32"},
      {"an unknown type", build([&](GgufBuilder& b) { b.entry(k).type = 77; }), "type 77"},
      {"a type that is not read", build([&](GgufBuilder& b) { b.entry(k).type = 25; }),
       "I16 is not supported"},
      {"a tensor is missing", build([&](GgufBuilder& b) { b.entry(k).name = "blk.9.attn_k.weight"; }),
       "\"blk.1.attn_k.weight\" is missing"},
      {"a tensor is there twice", build([&](GgufBuilder& b) { b.entry(k).name = "blk.0.attn_k.weight"; }),
       "there twice"},
      {"a tensor is of another shape", build([&](GgufBuilder& b) {
         b.entry(k).shape = {128, 256};
       }),
       "shape (128, 256)"},
      {"unknown architecture", build([](GgufBuilder& b) { b.text("general.architecture", "rwkv7"); }),
       "rwkv7"},
      {"no layers", build([](GgufBuilder& b) { b.integer("llama.block_count", 0); }), "block_count: 0"},
      {"unknown RoPE scaling", build([](GgufBuilder& b) { b.text("llama.rope.scaling.type", "longrope"); }),
       "longrope"},
      {"unknown pattern", build([](GgufBuilder& b) { b.text("tokenizer.ggml.pre", "viking"); }),
       "tokenizer.ggml.pre: \"viking\" is not supported"},
      {"another kind of tokenizer", build([](GgufBuilder& b) { b.text("tokenizer.ggml.model", "t5"); }),
       "tokenizer.ggml.model: \"t5\" is not supported: gpt2, llama"},
      {"no merges", build([](GgufBuilder& b) { b.erase("tokenizer.ggml.merges"); }), "merges: missing"},
      {"types of too few tokens", build([](GgufBuilder& b) {
         b.array<int32_t>("tokenizer.ggml.token_type", 5, {1, 1});
       }),
       "2 numbers for 2048 tokens"},
      {"a NaN among the weights", build([&](GgufBuilder& b) { b.entry(k).bytes.replace(0, 2, "\xc0\x7f"); }),
       "blk.1.attn_k.weight: row 0: not finite", 6},
      {"a NaN in a row that lies elsewhere",
       build([&](GgufBuilder& b) { b.entry(k).bytes.replace(3 * 256, 2, "\xc0\x7f"); }),
       "blk.1.attn_k.weight: row 3: not finite", 6},
  };
  TempFolder dir;
  const std::string gguf = dir / "m.gguf", out = dir / "map.h5";
  const GgufBuilder good_one = test::gguf_of(model("tiny-llama"));
  for (const Case& c : cases) {
    CAPTURE(c.what);
    put_file(gguf, c.spoil(good_one));
    const Outcome outcome = blockgtq({"calibrate", "-m", gguf, "-f", text("calibration"), "--tokens", "256",
                                      "--device", "cpu", "-q", "-o", out});
    CAPTURE(outcome.err);
    CHECK(outcome.code == c.code);
    CHECK(error_lines(outcome) == 1);
    CHECK_THAT(outcome.err, ContainsSubstring("m.gguf: "));
    CHECK_THAT(outcome.err, ContainsSubstring(c.says));
    CHECK(dir.entries() == 1);  // the file alone
  }
}

TEST_CASE("a GGUF file whose tokenizer is not supported takes token ids") {
  TempFolder dir;
  const std::string gguf = dir / "m.gguf";
  test::gguf_of(model("tiny-llama")).text("tokenizer.ggml.model", "bert").write(gguf);
  const Outcome refused = blockgtq({"tokenize", "-m", gguf, "-f", text("calibration")});
  CHECK(refused.code == 3);
  CHECK_THAT(refused.err, ContainsSubstring("hint: --ids"));
  CHECK_THAT(good({"inspect", gguf}).out, ContainsSubstring("supported with --ids in place of a text"));
  put_file(dir / "ids.txt", "1 2 3 4 5 6 7 8");
  good({"energy", "-m", gguf, "--ids", dir / "ids.txt", "--tokens", "8", "-o", dir / "s.h5", "-q"});
}

TEST_CASE("a file that is no model, and none at all") {
  TempFolder dir;
  put_file(dir / "x.bin", "hello");
  const Outcome file = blockgtq({"tokenize", "-m", dir / "x.bin", "-f", text("calibration")});
  CHECK(file.code == 3);
  CHECK_THAT(file.err, ContainsSubstring("a model is a folder with config.json, or a GGUF file"));
  const Outcome none = blockgtq({"tokenize", "-m", dir / "x.gguf", "-f", text("calibration")});
  CHECK(none.code == 3);
  CHECK_THAT(none.err, ContainsSubstring("x.gguf: no such file"));
}

}  // namespace blockgtq
