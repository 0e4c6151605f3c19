// Every input that is kept goes through the reader it was found with: seeds, and what once was a finding.
// Then the same with changes that chance makes, the same ones every time: what libFuzzer does for longer.
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "catch.h"
#include "reader.h"

namespace blockgtq {
namespace {

struct Kept {
  std::string name, bytes;
};

std::vector<Kept> kept_inputs(const Reader& reader) {
  const std::filesystem::path corpus = std::filesystem::path(BLOCKGTQ_SOURCE_DIR) / "tests/fuzz/corpus";
  std::vector<Kept> kept;
  for (const auto& entry : std::filesystem::directory_iterator(corpus / reader.name)) {
    std::ifstream in(entry.path(), std::ios::binary);
    kept.push_back({entry.path().filename().string(), {std::istreambuf_iterator<char>(in), {}}});
  }
  std::sort(kept.begin(), kept.end(), [](const Kept& a, const Kept& b) { return a.name < b.name; });
  return kept;
}

/// splitmix64
struct Chance {
  uint64_t state = 1;
  uint64_t below(uint64_t n) {
    uint64_t z = state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return (z ^ (z >> 31)) % n;
  }
};

/// One to four changes: a byte, a part left out, said twice, or taken from another input.
std::string changed(std::string text, const std::vector<Kept>& others, Chance& chance) {
  constexpr unsigned char kTelling[] = {0,   1,   0x7f, 0x80, 0xff, '"', '[',
                                        '{', '}', '\\', '\n', '-',  '0', '9'};
  for (uint64_t n = 1 + chance.below(4); n > 0; --n) {
    const size_t at = chance.below(text.size() + 1),
                 length = chance.below(1 + std::min<size_t>(text.size() - at, 32));
    const std::string& other = others[chance.below(others.size())].bytes;
    const size_t from = chance.below(other.size() + 1);
    switch (chance.below(5)) {
      case 0:
        if (at < text.size()) text[at] ^= char(1 << chance.below(8));
        break;
      case 1:
        if (at < text.size()) text[at] = char(kTelling[chance.below(std::size(kTelling))]);
        break;
      case 2:
        text.erase(at, length);
        break;
      case 3:
        text.insert(at, text.substr(at, length));
        break;
      default:
        text.insert(at, other.substr(from, chance.below(64)));
    }
  }
  return text;
}

}  // namespace

TEST_CASE("kept inputs are taken or refused with one line") {
  for (const Reader& reader : readers()) {
    int taken = 0, refused = 0;
    for (const Kept& kept : kept_inputs(reader)) {
      CAPTURE(reader.name, kept.name);
      std::string refusal;
      CHECK_NOTHROW(refusal = try_reader(reader, kept.bytes));
      if (kept.name.starts_with("good_")) CHECK(refusal == "");  // a seed that the reader must take
      ++(refusal.empty() ? taken : refused);
    }
    CAPTURE(reader.name);
    CHECK(taken > 0);
    CHECK(refused > 0);
  }
}

TEST_CASE("changed inputs are taken or refused with one line") {
  const char* wanted = std::getenv("BLOCKGTQ_CHANGES");  // of every input; for a longer run
  const uint64_t n = wanted ? std::strtoull(wanted, nullptr, 10) : 20;
  for (const Reader& reader : readers()) {
    const std::vector<Kept> kept = kept_inputs(reader);
    Chance chance;
    for (const Kept& one : kept)
      for (uint64_t i = 0; i < n; ++i) {
        const std::string input = changed(one.bytes, kept, chance);
        CAPTURE(reader.name, one.name, i, input.substr(0, 2000));
        CHECK_NOTHROW(try_reader(reader, input));
      }
  }
}

}  // namespace blockgtq
