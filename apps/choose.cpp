#include "choose.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "cache_run.h"
#include "quant/codebook.h"
#include "quant/methods.h"

namespace blockgtq {
namespace {

constexpr double kStep = 0.25;      // bits
constexpr double kMoreBits = 1.25;  // than the reference has: further away nothing was ever best

template <class T>
void add_new(std::vector<T>& list, const T& value) {
  if (std::find(list.begin(), list.end(), value) == list.end()) list.push_back(value);
}

/// 1, 1.25, ... up to a little more than `bits`; exact alone where the reference is exact.
std::vector<double> steps(double bits) {
  if (!bits) return {0};
  std::vector<double> grid;
  for (double b = 1; b <= std::min(bits + kMoreBits, double(kMaxBits)); b += kStep) grid.push_back(b);
  return grid;
}

bool takes(const std::vector<Method>& methods, const std::string& name, double bits) {
  return name.empty() || bits == std::floor(bits) || !find_method(methods, name)->whole_bits;
}

/// One side of a cache and what it costs per token.
struct Side {
  std::string method;
  double bits, bytes;
};

}  // namespace

ChooseSpec choose_spec(const std::string& reference, const std::vector<CacheSpec>& specs) {
  const std::vector<std::string> names = split(reference, '/');
  if (names.size() != 2)
    throw Error(Exit::usage, fmt::format("--choose: '{}' is not a key method / value method", reference));
  const std::string k = parse_methods(names[0], key_methods(), "--choose").at(0),
                    v = parse_methods(names[1], value_methods(), "--choose").at(0);
  ChooseSpec choose;
  for (const CacheSpec& spec : specs) {
    if (!takes(key_methods(), k, spec.bits.k) || !takes(value_methods(), v, spec.bits.v))
      throw Error(Exit::usage,
                  fmt::format("--choose: {} takes whole bits: {}", reference, pair_text(spec.bits)));
    add_new(choose.references, {spec.bits.k ? k : "", spec.bits.v ? v : "", spec.bits});
    if (spec.bits.k) add_new(choose.k_methods, spec.k_method);
    if (spec.bits.v) add_new(choose.v_methods, spec.v_method);
  }
  return choose;
}

std::vector<double> choose_budgets(const ChooseSpec& choose) {
  std::vector<double> budgets = budgets_of(choose.references);
  for (const CacheSpec& reference : choose.references)
    for (double side : {reference.bits.k, reference.bits.v})
      for (double bits : steps(side))
        if (bits) add_new(budgets, bits);
  std::sort(budgets.begin(), budgets.end());
  return budgets;
}

std::vector<CacheSpec> candidates(const CacheSpec& reference, const ChooseSpec& choose,
                                  const AttentionShape& shape, const BitMap* map, int64_t n) {
  const QuantizedCache held = make_cache(reference, shape, map);
  const double ceiling = held.key_bytes(n) + held.value_bytes(n);
  const std::vector<std::string> exact = {""};
  std::vector<Side> keys, values;  // ascending bits of each method
  for (const std::string& method : reference.bits.k ? choose.k_methods : exact)
    for (double bits : steps(reference.bits.k))
      if (takes(key_methods(), method, bits))
        keys.push_back({method, bits, make_cache({method, "", {bits, 0}}, shape, map).key_bytes(n)});
  for (const std::string& method : reference.bits.v ? choose.v_methods : exact)
    for (double bits : steps(reference.bits.v))
      if (takes(value_methods(), method, bits))
        values.push_back({method, bits, make_cache({"", method, {0, bits}}, shape, map).value_bytes(n)});

  std::vector<CacheSpec> found;
  for (const Side& k : keys)
    for (const std::string& method : reference.bits.v ? choose.v_methods : exact) {
      const Side* best = nullptr;
      for (const Side& v : values)
        if (v.method == method && k.bytes + v.bytes <= ceiling) best = &v;
      if (!best) continue;
      const CacheSpec spec{k.method, method, {k.bits, best->bits}};
      // the same values with fewer bits of keys of the same method cannot be better
      std::erase_if(found, [&](const CacheSpec& other) {
        return other.k_method == spec.k_method && other.v_method == spec.v_method &&
               other.bits.v == spec.bits.v && other.bits.k < spec.bits.k;
      });
      found.push_back(spec);
    }
  if (found.empty())
    throw Error(Exit::input,
                fmt::format("nothing fits under the {:g} bytes of {}", ceiling, describe(reference)));
  return found;
}

std::vector<Choice> choose_caches(const ChooseSpec& choose, const Session& text, const BitMap* map,
                                  const std::string& what, Progress& progress) {
  std::vector<Choice> all;
  std::vector<CacheSpec> specs;  // of all references, each once
  for (const CacheSpec& reference : choose.references) {
    all.push_back({reference, {}, {}});
    for (const CacheSpec& spec : candidates(reference, choose, text.shape, map, text.chunk)) {
      add_new(specs, spec);
      all.back().candidates.push_back({spec, 0, 0, {}});
    }
  }
  std::vector<QuantizedCache> caches;
  for (const CacheSpec& spec : specs) caches.push_back(make_cache(spec, text.shape, map));
  const QualityRun run = measure_quality(text, caches, what, progress);
  for (Choice& one : all) {
    const CacheQuality* best = nullptr;
    for (CacheQuality& candidate : one.candidates) {
      const auto i = size_t(std::find(specs.begin(), specs.end(), candidate.spec) - specs.begin());
      candidate = {specs[i], caches[i].key_bytes(text.chunk), caches[i].value_bytes(text.chunk),
                   run.caches[i]};
      if (!best || candidate.quality.kl_mean < best->quality.kl_mean) best = &candidate;
    }
    one.chosen = best->spec;
  }
  return all;
}

}  // namespace blockgtq
