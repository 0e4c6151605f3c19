#include "quant/methods.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "quant/allocate.h"
#include "quant/block_gtq.h"
#include "quant/centred.h"
#include "quant/fp8.h"
#include "quant/kivi.h"
#include "quant/klt.h"
#include "quant/linear_quantizer.h"
#include "quant/rtn.h"
#include "quant/turboquant_prod.h"

namespace blockgtq {

namespace {

using Made = std::unique_ptr<Quantizer>;
using Bits = std::vector<uint8_t>;

/// A registered method and how it is made.
struct Entry {
  Method method;
  Codebook codebook;  // unless asked otherwise
  Made (*make)(const HeadMap&, Codebook);
  Bits (*bits)(const HeadMap&) = nullptr;  // of keys
};

int whole(const HeadMap& head) {
  check(head.average_bits == std::floor(head.average_bits), "a method of whole bits at a fractional budget");
  return int(head.average_bits);
}

const HeadCalibration& calibrated(const HeadMap& head) {
  if (!head.calibration)
    throw Error(Exit::input, "the map holds no key means: it was written by an older version",
                "calibrate (or allocate) writes a new one");
  return *head.calibration;
}

/// One width for every block.
Bits uniform(const HeadMap& head) {
  return Bits(size_t(head.layout.n_blocks()), uint8_t(whole(head)));
}

Bits by_energy(const HeadMap& head) {
  return {head.bits.begin(), head.bits.end()};
}

Bits by_product(const HeadMap& head) {
  calibrated(head);
  return {head.product_bits.begin(), head.product_bits.end()};
}

/// Bits by a score that no map holds bits of: as the map's own were made, where that was the published way.
Bits by_score(const HeadMap& head, const std::vector<double>& score) {
  if (!head.published)
    throw Error(
        Exit::usage,
        "block-gtq-product and block-gtq-centred take the published allocation only: the map was made by "
        "another allocator, cost, share or set of bits",
        "block-gtq and block-gtq-cb have the map's own bits");
  return allocate_greedy(score, {head.average_bits, head.min_bits, head.max_bits});
}

Bits by_both_energies(const HeadMap& head) {
  std::vector<double> score = calibrated(head).k_energy;
  for (size_t b = 0; b < score.size(); ++b) score[b] *= head.calibration->q_energy[b];
  return by_score(head, score);
}

Bits by_centred_energy(const HeadMap& head) {
  std::vector<double> score = centred_energy(head.layout, calibrated(head));
  for (size_t b = 0; b < score.size(); ++b) score[b] = 0.5 * (score[b] + head.calibration->q_energy[b]);
  return by_score(head, score);
}

Bits by_spectrum(const HeadMap& head) {
  if (calibrated(head).k_spectrum.empty())
    throw Error(Exit::input, "the map holds no key basis: its statistics are of an older version",
                "calibrate or energy make new ones");
  return {head.key_bits.begin(), head.key_bits.end()};
}

Bits eight(const HeadMap& head) {
  return Bits(size_t(head.layout.n_blocks()), 8);
}

Made linear(LinearCode code) {
  return std::make_unique<LinearQuantizer>(std::move(code));
}

std::vector<float> to_float(const std::vector<double>& x) {
  return {x.begin(), x.end()};
}

const std::vector<Entry>& key_entries() {
  static const std::vector<Entry> entries = {
      {{"tq-mse", false, true, "uniform TurboQuant-MSE, the baseline"},
       Codebook::reference,
       [](const HeadMap& h, Codebook c) -> Made {
         return std::make_unique<UniformTqMse>(h.layout.head_dim, whole(h), h.seed, c);
       },
       uniform},
      {{"block-gtq", true, false, "Block-GTQ as published: bits by block energy, a norm per group"},
       Codebook::reference,
       [](const HeadMap& h, Codebook c) -> Made {
         return std::make_unique<BlockGtq>(h.layout, h.bits, h.seed, c);
       },
       by_energy},
      {{"block-gtq-product", true, false, "Block-GTQ with bits by query energy times key energy"},
       Codebook::reference,
       [](const HeadMap& h, Codebook c) -> Made {
         return std::make_unique<BlockGtq>(h.layout, by_both_energies(h), h.seed, c);
       },
       by_both_energies},
      {{"block-gtq-centred", true, false, "Block-GTQ of centred keys, bits by their energy"},
       Codebook::reference,
       [](const HeadMap& h, Codebook c) {
         return linear(centred_blocks(h, by_centred_energy(h), false, c, Balance::none));
       },
       by_centred_energy},
      {{"block-gtq-cb", true, false, "centred and balanced keys, product score, a norm per group"},
       Codebook::exact,
       [](const HeadMap& h, Codebook c) { return linear(centred_blocks(h, by_product(h), false, c)); },
       by_product},
      {{"block-gtq-cb1", true, false, "the same with one norm per key"},
       Codebook::exact,
       [](const HeadMap& h, Codebook c) { return linear(centred_blocks(h, by_product(h), true, c)); },
       by_product},
      {{"klt", true, false, "keys before RoPE in their weighted Karhunen-Loeve basis, one norm"},
       Codebook::exact,
       [](const HeadMap& h, Codebook c) {
         by_spectrum(h);  // or why there is none
         return linear(klt_keys(h, c));
       },
       by_spectrum},
      {{"tq-mse-cb", true, true, "TurboQuant-MSE of centred and balanced keys"},
       Codebook::exact,
       [](const HeadMap& h, Codebook c) {
         calibrated(h);
         return linear(centred_uniform(h, whole(h), c));
       },
       uniform},
      {{"kivi", false, true, "per channel, scale and zero of 32 tokens"},
       Codebook::reference,
       [](const HeadMap& h, Codebook) -> Made { return std::make_unique<Kivi>(h.layout.head_dim, whole(h)); },
       uniform},
      {{"kivi-lagging", false, true, "KIVI on the grid of the 32 tokens before"},
       Codebook::reference,
       [](const HeadMap& h, Codebook) -> Made {
         return std::make_unique<Kivi>(h.layout.head_dim, whole(h), std::vector<float>(), true);
       },
       uniform},
      {{"kivi-centred", true, true, "KIVI of centred keys"},
       Codebook::reference,
       [](const HeadMap& h, Codebook) -> Made {
         return std::make_unique<Kivi>(h.layout.head_dim, whole(h), to_float(calibrated(h).k_mean));
       },
       uniform},
      {{"rtn", false, true, "round to nearest, scale and zero per token"},
       Codebook::reference,
       [](const HeadMap& h, Codebook) -> Made {
         return std::make_unique<RoundToNearest>(h.layout.head_dim, whole(h));
       },
       uniform},
      {{"turboquant-prod", false, true, "TurboQuant-prod: one bit fewer, and the residual's signs"},
       Codebook::reference,
       [](const HeadMap& h, Codebook) -> Made {
         return std::make_unique<TurboquantProd>(h.layout.head_dim, whole(h), h.seed);
       },
       uniform},
      {{"fp8", false, false, "e4m3: eight bits whatever the budget"},
       Codebook::reference,
       [](const HeadMap& h, Codebook) -> Made { return std::make_unique<Fp8>(h.layout.head_dim); },
       eight},
  };
  return entries;
}

const std::vector<Entry>& value_entries() {
  static const std::vector<Entry> entries = {
      {{"tq-mse", false, true, "uniform TurboQuant-MSE"},
       Codebook::reference,
       [](const HeadMap& h, Codebook c) -> Made {
         return std::make_unique<UniformTqMse>(h.v_dim, whole(h), h.seed, c);
       }},
      {{"tq-mse-centred", true, true, "TurboQuant-MSE of centred values"},
       Codebook::exact,
       [](const HeadMap& h, Codebook c) {
         LinearCode code = *UniformTqMse(h.v_dim, whole(h), h.seed, c).linear_code();
         code.mean = to_float(calibrated(h).v_mean);
         return linear(std::move(code));
       }},
      {{"klt", true, false, "weighted Karhunen-Loeve transform, bits by marginal gain, one norm"},
       Codebook::exact,
       [](const HeadMap& h, Codebook c) {
         if (calibrated(h).v_spectrum.empty())
           throw Error(Exit::input,
                       "the map holds no value basis: it was calibrated without the model's weights",
                       "calibrate -m, energy -m and dump keep what it is made from");
         return linear(klt_values(h, c));
       }},
  };
  return entries;
}

std::vector<Method> methods_of(const std::vector<Entry>& entries) {
  std::vector<Method> methods;
  for (const Entry& e : entries) methods.push_back(e.method);
  return methods;
}

Made make(const std::vector<Entry>& entries, const std::string& method, const HeadMap& head,
          Codebook codebook) {
  for (const Entry& e : entries)
    if (e.method.name == method) return e.make(head, codebook == Codebook::by_method ? e.codebook : codebook);
  throw std::logic_error("make_quantizer: unknown method " + method);
}

}  // namespace

const std::vector<Method>& key_methods() {
  static const std::vector<Method> methods = methods_of(key_entries());
  return methods;
}

const std::vector<Method>& value_methods() {
  static const std::vector<Method> methods = methods_of(value_entries());
  return methods;
}

const Method* find_method(const std::vector<Method>& methods, const std::string& name) {
  const auto found =
      std::find_if(methods.begin(), methods.end(), [&](const Method& m) { return m.name == name; });
  return found == methods.end() ? nullptr : &*found;
}

std::string method_list(const std::vector<Method>& methods) {
  std::string list;
  for (const Method& m : methods) list += (list.empty() ? "" : ", ") + std::string(m.name);
  return list;
}

std::unique_ptr<Quantizer> make_key_quantizer(const std::string& method, const HeadMap& head,
                                              Codebook codebook) {
  return make(key_entries(), method, head, codebook);
}

std::vector<uint8_t> key_code_bits(const std::string& method, const HeadMap& head) {
  for (const Entry& e : key_entries())
    if (e.method.name == method) return e.bits(head);
  throw std::logic_error("key_code_bits: unknown method " + method);
}

std::unique_ptr<Quantizer> make_value_quantizer(const std::string& method, const HeadMap& head,
                                                Codebook codebook) {
  return make(value_entries(), method, head, codebook);
}

}  // namespace blockgtq
