#include "choose.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "cache_run.h"
#include "eval/candidate.h"
#include "quant/methods.h"

namespace blockgtq {
namespace {

template <class T>
void add_new(std::vector<T>& list, const T& value) {
  if (std::find(list.begin(), list.end(), value) == list.end()) list.push_back(value);
}

bool takes(const std::vector<Method>& methods, const std::string& name, double bits) {
  return name.empty() || bits == std::floor(bits) || !find_method(methods, name)->whole_bits;
}

bool whole(const std::vector<Method>& methods, const std::string& name) {
  return !name.empty() && find_method(methods, name)->whole_bits;
}

}  // namespace

std::vector<ChooseSpec> choose_specs(const std::string& reference, const std::vector<CacheSpec>& specs) {
  const std::vector<std::string> names = split(reference, '/');
  if (names.size() != 2)
    throw Error(Exit::usage, fmt::format("--choose: '{}' is not a key method / value method", reference));
  const std::string k = parse_methods(names[0], key_methods(), "--choose").at(0),
                    v = parse_methods(names[1], value_methods(), "--choose").at(0);
  std::vector<CacheSpec> references;
  std::vector<std::string> k_methods, v_methods;
  std::vector<Code> codes;
  for (const CacheSpec& spec : specs) {
    if (!takes(key_methods(), k, spec.bits.k) || !takes(value_methods(), v, spec.bits.v))
      throw Error(Exit::usage,
                  fmt::format("--choose: {} takes whole bits: {}", reference, pair_text(spec.bits)));
    if (spec.k_method == kChosen || spec.v_method == kChosen)
      throw Error(Exit::usage, fmt::format("--choose: {} is what a map chose already", kChosen));
    add_new(references, {spec.bits.k ? k : "", spec.bits.v ? v : "", spec.bits, spec.exact, {}});
    add_new(codes, spec.bits.k ? spec.code.k : spec.code.v);
    if (spec.bits.k) add_new(k_methods, spec.k_method);
    if (spec.bits.v) add_new(v_methods, spec.v_method);
  }
  std::vector<ChooseSpec> choose;
  for (const CacheSpec& one : references) choose.push_back({one, k_methods, v_methods, codes});
  return choose;
}

std::vector<ChooseSpec> split_specs(const std::vector<double>& averages,
                                    const std::vector<std::string>& k_methods,
                                    const std::vector<std::string>& v_methods, const std::vector<Code>& codes,
                                    const ExactWindow& window, const AttentionShape& shape) {
  const std::vector<std::string> exact = {""};
  std::vector<ChooseSpec> choose;
  for (const double average : averages)
    for (const std::string& k : k_methods)
      for (const std::string& v : shape.v_dim ? v_methods : exact) {
        const BitPair even = even_split(average, {shape.layout.head_dim, shape.v_dim, whole(key_methods(), k),
                                                  whole(value_methods(), v)});
        for (const Code code : codes)
          if (const CacheSpec spec{k, v, even, window, code_of(even, code)}; has_codes(spec))
            choose.push_back({spec, {k}, {v}, {code}});
      }
  if (choose.empty()) throw Error(Exit::usage, "--code: none of these methods has trellis codes");
  return choose;
}

std::vector<double> choose_budgets(const std::vector<ChooseSpec>& choose) {
  std::vector<double> budgets;
  for (const ChooseSpec& one : choose)
    for (double side : {one.reference.bits.k, one.reference.bits.v})
      for (double bits : bit_steps(side, false))
        if (bits) add_new(budgets, bits);
  std::sort(budgets.begin(), budgets.end());
  return budgets;
}

std::vector<CacheSpec> candidates(const ChooseSpec& choose, const AttentionShape& shape, const BitMap* map,
                                  Codebook codebook, int64_t n) {
  const BitPair bits = choose.reference.bits;
  const ExactWindow window = choose.reference.exact;
  const QuantizedCache held = make_cache(choose.reference, shape, map, codebook);
  const double ceiling = held.key_bytes(n) + held.value_bytes(n);
  const std::vector<std::string> exact = {""};
  std::vector<CacheSpec> found = {choose.reference};
  for (const std::string& k : bits.k ? choose.k_methods : exact)
    for (const std::string& v : bits.v ? choose.v_methods : exact)
      for (const Code code : choose.codes) {
        if (!has_codes({k, v, bits, window, code_of(bits, code)})) continue;
        auto spec = [&](const BitPair& pair) {
          return CacheSpec{pair.k ? k : "", pair.v ? v : "", pair, window, code_of(pair, code)};
        };
        std::vector<PricedBits> keys, values;
        for (double b : bit_steps(bits.k, whole(key_methods(), k)))
          keys.push_back({b, make_cache(spec({b, 0}), shape, map, codebook).key_bytes(n)});
        for (double b : bit_steps(bits.v, whole(value_methods(), v)))
          values.push_back({b, make_cache(spec({0, b}), shape, map, codebook).value_bytes(n)});
        for (const BitPair& pair : splits_under(ceiling, keys, values)) add_new(found, spec(pair));
      }
  return found;
}

double n_numbers(const BitPair& bits, const AttentionShape& shape) {
  return double(shape.n_layers) * shape.n_kv_heads *
         ((bits.k ? shape.layout.head_dim : 0) + (bits.v ? shape.v_dim : 0));
}

RunOptions text_behind(RunOptions calibration, int64_t tokens, int64_t chunk) {
  calibration.skip = calibration.tokens;
  calibration.calibrate_from = 0;
  calibration.tokens = tokens;
  calibration.chunk = chunk;
  return calibration;
}

std::vector<Choice> choose_caches(const std::vector<ChooseSpec>& references, const Session& text,
                                  const BitMap* map, Codebook codebook, const std::string& what,
                                  Progress& progress, ResumeFile* resume) {
  std::vector<Choice> all;
  std::vector<CacheSpec> specs;  // of all references, each once
  for (const ChooseSpec& one : references) {
    all.push_back({one.reference, {}, {}});
    for (const CacheSpec& spec : candidates(one, text.shape, map, codebook, text.chunk)) {
      add_new(specs, spec);
      all.back().candidates.push_back({spec, 0, 0, {}});
    }
  }
  std::vector<QuantizedCache> caches;
  for (const CacheSpec& spec : specs) caches.push_back(make_cache(spec, text.shape, map, codebook));
  const QualityRun run = measure_quality(text, caches, what, progress, resume);
  for (Choice& one : all) {
    std::vector<Candidate> priced;
    for (CacheQuality& candidate : one.candidates) {
      const auto i = size_t(std::find(specs.begin(), specs.end(), candidate.spec) - specs.begin());
      candidate = {specs[i], caches[i].key_bytes(text.chunk), caches[i].value_bytes(text.chunk),
                   run.caches[i]};
      priced.push_back({run.kl[i], candidate.key_bytes + candidate.value_bytes});
    }
    one.chosen = one.candidates[choose(priced, n_numbers(one.reference.bits, text.shape))].spec;
  }
  return all;
}

}  // namespace blockgtq
