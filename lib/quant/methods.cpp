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

/// A registered method, and how to make its quantizer.
struct Entry {
  Method method;
  Codebook codebook;  // of Codebook::by_method
  Made (*make)(const HeadMap&, Codebook);
  Bits (*bits)(const HeadMap&) = nullptr;  // for keys
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

/// Bits by a score for which the map holds none. They are allocated here, if the map's own were allocated in
/// the published way.
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

/// The weight of each coordinate's squared error of a key: the query energy of its block.
std::vector<float> key_weight(const HeadMap& head) {
  std::vector<float> weight(head.layout.head_dim);
  for (int b = 0; b < head.layout.n_blocks(); ++b)
    for (const int c : head.layout.coords(b)) weight[c] = float(calibrated(head).q_energy[b]);
  return weight;
}

/// Adds a fallback to plain TQ-MSE of as many bits. So a key or value unlike those of calibration loses no
/// more than by plain TQ-MSE.
Made or_plain(LinearCode code, uint64_t seed, Codebook codebook, std::vector<float> weight) {
  int bits = code.one_norm ? 0
                           : 16 * int(code.groups.size() -
                                      1);  // the other groups' norms are bits that the fallback does not use
  for (const LinearCode::Group& group : code.groups) bits += group.d * group.bits;
  const int width = std::min(bits / code.dim, kMaxBits);
  if (width < 1) return linear(std::move(code));
  LinearCode plain = *UniformTqMse(code.dim, width, seed, codebook).linear_code();
  plain.before_rope = code.before_rope;
  return linear(with_fallback(std::move(code), std::move(plain), std::move(weight)));
}
Made keys_or_plain(const HeadMap& head, Codebook codebook, LinearCode code) {
  return or_plain(std::move(code), head.seed, codebook, key_weight(head));
}
Made values_or_plain(const HeadMap& head, Codebook codebook, LinearCode code) {
  return or_plain(std::move(code), head.seed, codebook, {});
}

const std::vector<float>& centres(const HeadMap& head, std::vector<float> HeadCalibration::*which) {
  if ((calibrated(head).*which).empty())
    throw Error(Exit::input,
                "the map holds no centres: its statistics are of an older version, or of unknown length",
                "calibrate or energy make new ones");
  return head.calibration->*which;
}

LinearCode centred_values(const HeadMap& head, Codebook codebook) {
  LinearCode code = *UniformTqMse(head.v_dim, whole(head), head.seed, codebook).linear_code();
  code.mean = to_float(calibrated(head).v_mean);
  return code;
}

const std::vector<Entry>& key_entries() {
  static const std::vector<Entry> entries = {
      {{"tq-mse", false, true, true, "uniform TurboQuant-MSE, the baseline"},
       Codebook::reference,
       [](const HeadMap& h, Codebook c) -> Made {
         return std::make_unique<UniformTqMse>(h.layout.head_dim, whole(h), h.seed, c);
       },
       uniform},
      {{"block-gtq", true, false, true, "Block-GTQ as published: bits by block energy, a norm per group"},
       Codebook::reference,
       [](const HeadMap& h, Codebook c) -> Made {
         return std::make_unique<BlockGtq>(h.layout, h.bits, h.seed, c);
       },
       by_energy},
      {{"block-gtq-product", true, false, true, "Block-GTQ with bits by query energy times key energy"},
       Codebook::reference,
       [](const HeadMap& h, Codebook c) -> Made {
         return std::make_unique<BlockGtq>(h.layout, by_both_energies(h), h.seed, c);
       },
       by_both_energies},
      {{"block-gtq-centred", true, false, true, "Block-GTQ of centred keys, bits by their energy"},
       Codebook::reference,
       [](const HeadMap& h, Codebook c) {
         return keys_or_plain(h, c, centred_blocks(h, by_centred_energy(h), false, c, Balance::none));
       },
       by_centred_energy},
      {{"block-gtq-cb", true, false, true, "centred and balanced keys, product score, a norm per group"},
       Codebook::exact,
       [](const HeadMap& h, Codebook c) {
         return keys_or_plain(h, c, centred_blocks(h, by_product(h), false, c));
       },
       by_product},
      {{"block-gtq-cb1", true, false, true, "the same with one norm per key"},
       Codebook::exact,
       [](const HeadMap& h, Codebook c) {
         return keys_or_plain(h, c, centred_blocks(h, by_product(h), true, c));
       },
       by_product},
      {{"klt", true, false, true,
        "keys before RoPE in their weighted Karhunen-Loeve basis, a norm per group"},
       Codebook::exact,
       [](const HeadMap& h, Codebook c) {
         by_spectrum(h);  // throws where there is no basis
         return keys_or_plain(h, c, klt_keys(h, c));
       },
       by_spectrum},
      {{"tq-mse-cb", true, true, true, "TurboQuant-MSE of centred and balanced keys"},
       Codebook::exact,
       [](const HeadMap& h, Codebook c) {
         calibrated(h);
         return keys_or_plain(h, c, centred_uniform(h, whole(h), c));
       },
       uniform},
      {{"tq-mse-centres", true, true, true, "the same with the nearest of many centres in place of the mean"},
       Codebook::exact,
       [](const HeadMap& h, Codebook c) {
         const std::vector<float>& found = centres(h, &HeadCalibration::k_centres);
         LinearCode code = centred_uniform(h, whole(h), c);
         code.centres = found;
         return keys_or_plain(h, c, code);
       },
       uniform},
      {{"kivi", false, true, false, "per channel, scale and zero of 32 tokens"},
       Codebook::reference,
       [](const HeadMap& h, Codebook) -> Made { return std::make_unique<Kivi>(h.layout.head_dim, whole(h)); },
       uniform},
      {{"kivi-lagging", false, true, false, "KIVI on the grid of the 32 tokens before"},
       Codebook::reference,
       [](const HeadMap& h, Codebook) -> Made {
         return std::make_unique<Kivi>(h.layout.head_dim, whole(h), std::vector<float>(), true);
       },
       uniform},
      {{"kivi-centred", true, true, false, "KIVI of centred keys"},
       Codebook::reference,
       [](const HeadMap& h, Codebook) -> Made {
         return std::make_unique<Kivi>(h.layout.head_dim, whole(h), to_float(calibrated(h).k_mean));
       },
       uniform},
      {{"rtn", false, true, false, "round to nearest, scale and zero per token"},
       Codebook::reference,
       [](const HeadMap& h, Codebook) -> Made {
         return std::make_unique<RoundToNearest>(h.layout.head_dim, whole(h));
       },
       uniform},
      {{"turboquant-prod", false, true, false, "TurboQuant-prod: one bit fewer, and the residual's signs"},
       Codebook::reference,
       [](const HeadMap& h, Codebook) -> Made {
         return std::make_unique<TurboquantProd>(h.layout.head_dim, whole(h), h.seed);
       },
       uniform},
      {{"fp8", false, false, false, "e4m3: eight bits whatever the budget"},
       Codebook::reference,
       [](const HeadMap& h, Codebook) -> Made { return std::make_unique<Fp8>(h.layout.head_dim); },
       eight},
  };
  return entries;
}

const std::vector<Entry>& value_entries() {
  static const std::vector<Entry> entries = {
      {{"tq-mse", false, true, true, "uniform TurboQuant-MSE"},
       Codebook::reference,
       [](const HeadMap& h, Codebook c) -> Made {
         return std::make_unique<UniformTqMse>(h.v_dim, whole(h), h.seed, c);
       }},
      {{"tq-mse-centred", true, true, true, "TurboQuant-MSE of centred values"},
       Codebook::exact,
       [](const HeadMap& h, Codebook c) { return values_or_plain(h, c, centred_values(h, c)); }},
      {{"tq-mse-centres", true, true, true, "the same with the nearest of many centres in place of the mean"},
       Codebook::exact,
       [](const HeadMap& h, Codebook c) {
         LinearCode code = centred_values(h, c);
         code.centres = centres(h, &HeadCalibration::v_centres);
         return values_or_plain(h, c, code);
       }},
      {{"klt", true, false, true, "weighted Karhunen-Loeve transform, bits by marginal gain, one norm"},
       Codebook::exact,
       [](const HeadMap& h, Codebook c) {
         if (calibrated(h).v_spectrum.empty())
           throw Error(Exit::input,
                       "the map holds no value basis: it was calibrated without the model's weights",
                       "calibrate -m, energy -m and dump keep what it is made from");
         return values_or_plain(h, c, klt_values(h, c));
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
          Codebook codebook, Code code) {
  for (const Entry& e : entries) {
    if (e.method.name != method) continue;
    Made made = e.make(head, codebook == Codebook::by_method ? e.codebook : codebook);
    if (code == Code::scalar) return made;
    check(e.method.trellis, "make_quantizer: a method without trellis codes");
    return linear(with_trellis(made->linear_code().value()));
  }
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
                                              Codebook codebook, Code code) {
  return make(key_entries(), method, head, codebook, code);
}

std::vector<uint8_t> key_code_bits(const std::string& method, const HeadMap& head) {
  for (const Entry& e : key_entries())
    if (e.method.name == method) return e.bits(head);
  throw std::logic_error("key_code_bits: unknown method " + method);
}

std::unique_ptr<Quantizer> make_value_quantizer(const std::string& method, const HeadMap& head,
                                                Codebook codebook, Code code) {
  return make(value_entries(), method, head, codebook, code);
}

}  // namespace blockgtq
