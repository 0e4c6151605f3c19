#include "tasks/niah.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <numeric>

#include "base/error.h"
#include "hf/utf8.h"
#include "quant/random.h"

namespace blockgtq {
namespace {

constexpr const char* kNoise =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";
constexpr const char* kInput =
    "Some special magic {kind} are hidden within the following text. Make sure to memorize it. I will quiz "
    "you about the {kind} afterwards.\n{context}\nWhat are all the special magic {kind} for {query} "
    "mentioned "
    "in the provided text?";
constexpr const char* kAnswerPrefix =
    " The special magic {kind} for {query} mentioned in the provided text are";
// The same for a single value of a single key.
constexpr const char* kInputOfOne =
    "A special magic {kind} is hidden within the following text. Make sure to memorize it. I will quiz you "
    "about the {kind} afterwards.\n{context}\nWhat is the special magic {kind} for {query} mentioned in the "
    "provided text?";
constexpr const char* kAnswerPrefixOfOne =
    " The special magic {kind} for {query} mentioned in the provided text is";
constexpr int kDepths = 40;  // the number of possible places of other needles, as in RULER

constexpr std::array<const char*, 48> kAdjectives = {
    "able",   "amber",  "ancient", "bold",   "brave",  "bright", "broad",  "calm",   "clever", "cold",
    "crisp",  "curly",  "deep",    "dry",    "eager",  "early",  "faint",  "famous", "fierce", "flat",
    "fresh",  "gentle", "golden",  "grand",  "hollow", "honest", "humble", "icy",    "jolly",  "keen",
    "lively", "loud",   "lucky",   "mellow", "mild",   "modern", "narrow", "noble",  "odd",    "plain",
    "proud",  "quick",  "quiet",   "rapid",  "silent", "sturdy", "tender", "vivid"};
constexpr std::array<const char*, 64> kNouns = {
    "anchor",  "apple",  "arrow",  "badge",  "barrel", "basket",  "beacon",  "bridge", "bucket",  "button",
    "cabin",   "candle", "canyon", "carpet", "castle", "cedar",   "circle",  "cloud",  "comet",   "copper",
    "corner",  "cradle", "desert", "dragon", "engine", "falcon",  "feather", "field",  "forest",  "garden",
    "glacier", "hammer", "harbor", "helmet", "island", "jacket",  "kettle",  "ladder", "lantern", "lemon",
    "magnet",  "marble", "meadow", "mirror", "needle", "orchard", "pebble",  "pillow", "planet",  "pocket",
    "rabbit",  "ribbon", "saddle", "shadow", "silver", "spider",  "stable",  "table",  "temple",  "thunder",
    "tunnel",  "valley", "window", "yarn"};

int64_t below(Random& random, int64_t n) {
  return int64_t(random.next_double() * double(n));
}

std::string draw(NeedleKind kind, Random& random) {
  switch (kind) {
    case NeedleKind::numbers:
      return std::to_string(1000000 + below(random, 9000000));
    case NeedleKind::words: {
      const std::string adjective = kAdjectives[size_t(below(random, kAdjectives.size()))];
      return adjective + "-" + kNouns[size_t(below(random, kNouns.size()))];
    }
    case NeedleKind::uuids: {
      const uint64_t high = (random.next_u64() & ~uint64_t(0xf000)) | 0x4000;                 // version 4
      const uint64_t low = (random.next_u64() & ~(uint64_t(3) << 62)) | (uint64_t(2) << 62);  // variant 1
      return fmt::format("{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", high >> 32, high >> 16 & 0xffff,
                         high & 0xffff, low >> 48, low & 0xffffffffffff);
    }
  }
  throw std::logic_error("draw: unknown kind of needle");
}

std::string kinds(NeedleKind kind) {
  return kind == NeedleKind::numbers ? "numbers" : kind == NeedleKind::words ? "words" : "uuids";
}

std::string needle(NeedleKind kind, const std::string& key, const std::string& value) {
  return fmt::format("One of the special magic {} for {} is: {}.", kinds(kind), key, value);
}

/// Draws one that is not in `taken`, and adds it there.
std::string draw_new(NeedleKind kind, Random& random, std::vector<std::string>& taken) {
  for (;;) {
    std::string drawn = draw(kind, random);
    if (std::find(taken.begin(), taken.end(), drawn) != taken.end()) continue;
    taken.push_back(drawn);
    return drawn;
  }
}

/// A sentence and its depth.
struct Placed {
  std::string text;
  double depth;
};

/// The sentences of some words: each ends with a word that ends with a full stop or the like.
std::vector<std::string> sentences(std::span<const std::string> essay, int64_t n_words) {
  std::vector<std::string> all;
  std::string sentence;
  for (int64_t i = 0; i < n_words; ++i) {
    const std::string& word = essay[size_t(i) % essay.size()];
    sentence += (sentence.empty() ? "" : " ") + word;
    if (i + 1 < n_words && std::string_view(".!?").find(word.back()) == std::string_view::npos) continue;
    all.push_back(std::move(sentence));
    sentence.clear();
  }
  return all;
}

/// The units between the needles.
std::vector<std::string> hay(const NiahTask& task, std::span<const std::string> essay, int64_t units,
                             std::vector<std::string>& taken, Random& random) {
  if (task.haystack == Haystack::essay) return sentences(essay, units);
  std::vector<std::string> lines(size_t(units), kNoise);
  if (task.haystack == Haystack::needles)
    for (std::string& line : lines) {
      const size_t asked = taken.size();  // other needles may share a key with each other, but not with these
      const std::string key = draw_new(task.keys, random, taken);
      taken.resize(asked);
      line = needle(task.values, key, draw(task.values, random));
    }
  return lines;
}

std::string with_needles(const std::vector<std::string>& lines, std::vector<Placed> needles,
                         const char* between) {
  std::stable_sort(needles.begin(), needles.end(),
                   [](const Placed& a, const Placed& b) { return a.depth < b.depth; });
  std::string text;
  const auto add = [&](const std::string& line) { text += (text.empty() ? "" : between) + line; };
  size_t next = 0;
  for (size_t i = 0; i <= lines.size(); ++i) {
    while (next < needles.size() && size_t(needles[next].depth * double(lines.size())) <= i)
      add(needles[next++].text);
    if (i < lines.size()) add(lines[i]);
  }
  return text;
}

std::string listed(const std::vector<std::string>& keys) {
  std::string text = keys[0];
  for (size_t i = 1; i < keys.size(); ++i) text += (i + 1 < keys.size() ? ", " : ", and ") + keys[i];
  return text;
}

std::string filled(const char* frame, const std::string& kind, const std::string& query,
                   const std::string& context) {
  std::string text = replace_all(replace_all(frame, "{kind}", kind), "{query}", query);
  return replace_all(text, "{context}", context);  // last, so that nothing in the context is replaced
}

}  // namespace

const std::vector<NiahTask>& niah_tasks() {
  constexpr auto words = NeedleKind::words, numbers = NeedleKind::numbers, uuids = NeedleKind::uuids;
  static const std::vector<NiahTask> tasks = {{"single-1", Haystack::noise, words, numbers, 1, 1, 1},
                                              {"single-2", Haystack::essay, words, numbers, 1, 1, 1},
                                              {"single-3", Haystack::essay, words, uuids, 1, 1, 1},
                                              {"multikey-1", Haystack::essay, words, numbers, 4, 1, 1},
                                              {"multikey-2", Haystack::needles, words, numbers, 1, 1, 1},
                                              {"multikey-3", Haystack::needles, uuids, uuids, 1, 1, 1},
                                              {"multivalue", Haystack::essay, words, numbers, 1, 4, 1},
                                              {"multiquery", Haystack::essay, words, numbers, 4, 1, 4}};
  return tasks;
}

std::vector<std::string> essay_words(std::string_view text) {
  std::vector<std::string> words(1);
  for (const char c : text)
    if (c != ' ' && (c < '\t' || c > '\r'))
      words.back() += c;
    else if (!words.back().empty())
      words.emplace_back();
  if (words.back().empty()) words.pop_back();
  return words;
}

NiahQuestion make_niah(const NiahTask& task, std::span<const std::string> essay, double depth, uint64_t seed,
                       int64_t units) {
  check(depth >= 0 && depth <= 1 && units >= 1 && (task.haystack != Haystack::essay || !essay.empty()),
        "make_niah: arguments");
  Random random(seed);
  NiahQuestion question;
  std::vector<std::string> keys, values, asked;
  std::vector<Placed> needles;
  std::vector<int> places(kDepths);
  std::iota(places.begin(), places.end(), 0);
  for (int k = 0; k < task.n_keys; ++k) {
    const std::string key = draw_new(task.keys, random, keys);
    if (k < task.n_queries) asked.push_back(key);
    for (int v = 0; v < task.n_values; ++v) {
      const std::string value = draw_new(task.values, random, values);
      if (k < task.n_queries) question.answers.push_back(value);
      const auto place = places.begin() + below(random, int64_t(places.size()));
      const bool first = needles.empty();
      needles.push_back({needle(task.values, key, value), first ? depth : double(*place) / (kDepths - 1)});
      places.erase(place);
    }
  }
  const bool one = task.n_queries * task.n_values == 1;
  std::string kind = kinds(task.values);
  if (one) kind.pop_back();
  const std::string query = listed(asked);
  const std::string context = with_needles(hay(task, essay, units, keys, random), std::move(needles),
                                           task.haystack == Haystack::essay ? " " : "\n");
  question.input = filled(one ? kInputOfOne : kInput, kind, query, context);
  question.answer_prefix = filled(one ? kAnswerPrefixOfOne : kAnswerPrefix, kind, query, "");
  return question;
}

NiahQuestion largest_niah(const NiahTask& task, std::span<const std::string> essay, double depth,
                          uint64_t seed, const std::function<bool(const NiahQuestion&)>& fits,
                          const std::string& what) {
  const auto make = [&](int64_t units) { return make_niah(task, essay, depth, seed, units); };
  NiahQuestion best = make(1);
  if (!fits(best)) throw Error(Exit::usage, what + " finds no room for a needle, its question and an answer");
  int64_t low = 1, high = 2;  // low fits
  for (NiahQuestion next; fits(next = make(high)); high *= 2) {
    best = std::move(next);
    low = high;
  }
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    NiahQuestion next = make(middle);
    const bool fit = fits(next);
    (fit ? low : high) = middle;
    if (fit) best = std::move(next);
  }
  return best;
}

}  // namespace blockgtq
