// Activations that another program captured: a safetensors file where ACTS.h5 is.
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "hf/safetensors_builder.h"

namespace blockgtq {
namespace {

using test::SafetensorsBuilder;

constexpr int kTokens = 8, kDim = 8;

std::string floats(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

/// Two layers, 3 and 7 of a model; two query heads of ones, one KV head with (3, 4) in block 0, (i, i + 4).
SafetensorsBuilder captured() {
  SafetensorsBuilder file;
  file.add("inv_freq", "F32", {4}, floats({1, 0.1f, 0.01f, 0.001f}));
  std::vector<float> keys(kTokens * kDim, 0);
  for (int t = 0; t < kTokens; ++t) keys[t * kDim] = 3, keys[t * kDim + 4] = 4;
  for (const char* layer : {"layers.3.", "layers.7."}) {
    file.add_bf16(std::string(layer) + "q", {kTokens, 2, kDim});
    file.add(std::string(layer) + "k", "F32", {kTokens, 1, kDim}, floats(keys));
    file.add_bf16(std::string(layer) + "v", {kTokens, 1, kDim});
  }
  file.header()["__metadata__"] = {{"chunk", "4"}, {"model", "elsewhere"}, {"format", "pt"}};
  return file;
}

}  // namespace

TEST_CASE("captured activations: energy, quantize and eval-logits take them") {
  TempFolder dir;
  const std::string acts = dir / "a.safetensors", stats = dir / "s.h5", map = dir / "m.h5";
  captured().write(acts);
  good({"energy", acts, "-o", stats});
  good({"allocate", stats, "--bits", "2", "-o", map});
  const std::string csv = good({"export-bitmap", map, "--format", "csv", "-o", "-"}).out;
  // |q|^2 of a block is 2, |k|^2 is 25 in the first: their mean
  CHECK_THAT(csv, ContainsSubstring("0,0,0,1,0,4,3,13.5\r\n"));
  CHECK_THAT(csv, ContainsSubstring(",1,5,2,1\r\n"));
  const auto shown = nlohmann::json::parse(good({"inspect", map, "--json", "-"}).out);
  CHECK(shown.at("model") == "elsewhere");
  CHECK(shown.at("captured") == "a.safetensors");
  CHECK(shown.at("rotary_dim") == kDim);
  // layers keep the model's numbers
  CHECK_THAT(good({"export-bitmap", map, "--format", "ranges", "-o", "-"}).out, ContainsSubstring("l7-7"));
  const std::string quantized = good({"quantize", acts, "--map", map, "-o", dir / "q.h5"}).out;
  CHECK_THAT(quantized, ContainsSubstring("distortion"));
  const Outcome eval = good({"eval-logits", "--activations", acts, "--map", map, "--json", "-"});
  const auto doc = nlohmann::json::parse(eval.out);
  CHECK(doc.at("model") == "elsewhere");
  CHECK(doc.at("layers").size() == 2);
  CHECK(doc.at("layers")[0].at("results")[0].at("mae") == doc.at("layers")[1].at("results")[0].at("mae"));
  CHECK_THAT(eval.err, ContainsSubstring("scored on the text"));
  CHECK_THAT(eval.err, !ContainsSubstring("other weights"));
}

TEST_CASE("captured activations: what is wrong with them is said in one line") {
  TempFolder dir;
  const auto refused = [&](const std::string& what, const std::function<void(nlohmann::ordered_json&)>& spoil,
                           int code = 3) {
    const std::string acts = dir / "a.safetensors";
    SafetensorsBuilder file = captured();
    spoil(file.header());
    file.write(acts);
    const Outcome outcome = blockgtq({"energy", acts, "-o", dir / "s.h5"});
    INFO(outcome.err);
    CHECK(outcome.code == code);
    CHECK(error_lines(outcome) == 1);
    CHECK_THAT(outcome.err, ContainsSubstring(what));
    CHECK(!std::ifstream(dir / "s.h5"));
  };
  const auto rename = [](nlohmann::ordered_json& header, const std::string& from, const std::string& to) {
    header[to] = header[from];
    header.erase(from);
  };
  refused("tensor layers.3.q is missing", [&](auto& h) { rename(h, "layers.3.q", "layers.4.q"); });
  refused("tensor layers.3.key found", [&](auto& h) { rename(h, "layers.3.k", "layers.3.key"); });
  refused("tensor layers.x.k found", [&](auto& h) { rename(h, "layers.3.k", "layers.x.k"); });
  refused("tensor inv_freq is missing", [&](auto& h) { rename(h, "inv_freq", "layers.3.output"); });
  refused("(4, 2, 8) found, (8, 1, 8) wanted", [&](auto& h) { h["layers.7.k"]["shape"] = {4, 2, 8}; });
  refused("I32 found", [&](auto& h) { h["layers.7.k"]["dtype"] = "I32"; });
  refused("chunk: 9 found", [&](auto& h) { h["__metadata__"]["chunk"] = "9"; });
  refused("pairing: both found", [&](auto& h) { h["__metadata__"]["pairing"] = "both"; });
  refused("theta", [&](auto& h) { h["__metadata__"]["theta"] = "10000"; });

  SafetensorsBuilder file;  // not a number
  file.add("inv_freq", "F32", {1}, floats({1}));
  file.add("layers.0.q", "F32", {2, 1, 2}, floats({1, 1, 1, 1}));
  file.add("layers.0.k", "F32", {2, 1, 2}, floats({1, 1, std::nanf(""), 1}));
  file.write(dir / "n.safetensors");
  const Outcome nan = blockgtq({"energy", dir / "n.safetensors", "-o", dir / "s.h5"});
  CHECK(nan.code == 6);
  CHECK_THAT(nan.err, ContainsSubstring("layers.0.k: token 1: nan found"));
}

}  // namespace blockgtq
