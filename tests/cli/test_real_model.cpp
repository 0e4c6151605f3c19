// A real pretrained model, SmolLM2-135M-Instruct (Q4_1), where BLOCKGTQ_REAL_MODEL names its GGUF file
// (tests/real/fetch_model.sh fetches it). Known answers: ids by the `tokenizers` library, 0.23.3.
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/sha256.h"
#include "cli/command.h"

namespace blockgtq {
namespace {

/// The file; empty, with a word about it, where it is not named.
std::string real_model() {
  const char* path = std::getenv("BLOCKGTQ_REAL_MODEL");
  if (path && *path) return path;
  WARN("left out: BLOCKGTQ_REAL_MODEL names no file (tests/real/fetch_model.sh fetches it)");
  return "";
}

/// SHA-256 of the ids as little-endian int32.
std::string hash_of_lines(const std::string& lines) {
  std::istringstream in(lines);
  std::vector<int32_t> ids;
  for (int32_t id = 0; in >> id;) ids.push_back(id);
  Sha256 hash;
  hash.update(std::as_bytes(std::span(ids)));
  return hash.hex();
}

}  // namespace

TEST_CASE("a real model: its tokens are those of the tokenizers library") {
  const std::string model = real_model();
  if (model.empty()) return;
  CHECK(hash_of_lines(good({"tokenize", "-m", model, "-f", text("calibration")}).out) ==
        "0652b6a7fa5ff99876e73abf8707e7fd42a3c33e3c5b6e07be9a98eeb93c9639");
  CHECK(hash_of_lines(good({"tokenize", "-m", model, "-f", text("evaluation")}).out) ==
        "2101205488a068f1397bc8645985e78ba94204941a7c4fc73ad9c372de4284ef");
}

TEST_CASE("a real model: what inspect says") {
  const std::string model = real_model();
  if (model.empty()) return;
  const Outcome seen = good({"inspect", model});
  for (const char* says : {"supported", "Q4_1 210, F32 61, Q8_0 1", "in the file"})
    CHECK_THAT(seen.out, ContainsSubstring(says));
}

}  // namespace blockgtq
