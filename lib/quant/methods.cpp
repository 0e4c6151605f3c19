#include "quant/methods.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
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

/// A registered method and how it is made.
struct Entry {
  Method method;
  Codebook codebook;  // unless asked otherwise
  Made (*make)(const HeadMap&, Codebook);
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
       }},
      {{"block-gtq", true, false, "Block-GTQ as published: bits by block energy, a norm per group"},
       Codebook::reference,
       [](const HeadMap& h, Codebook c) -> Made {
         return std::make_unique<BlockGtq>(h.layout, h.bits, h.seed, c);
       }},
      {{"block-gtq-cb", true, false, "centred and balanced keys, product score, a norm per group"},
       Codebook::exact,
       [](const HeadMap& h, Codebook c) {
         calibrated(h);
         return linear(centred_blocks(h, h.product_bits, false, c));
       }},
      {{"block-gtq-cb1", true, false, "the same with one norm per key"},
       Codebook::exact,
       [](const HeadMap& h, Codebook c) {
         calibrated(h);
         return linear(centred_blocks(h, h.product_bits, true, c));
       }},
      {{"klt", true, false, "keys before RoPE in their weighted Karhunen-Loeve basis, one norm"},
       Codebook::exact,
       [](const HeadMap& h, Codebook c) {
         if (calibrated(h).k_spectrum.empty())
           throw Error(Exit::input, "the map holds no key basis: its statistics are of an older version",
                       "calibrate or energy make new ones");
         return linear(klt_keys(h, c));
       }},
      {{"tq-mse-cb", true, true, "TurboQuant-MSE of centred and balanced keys"},
       Codebook::exact,
       [](const HeadMap& h, Codebook c) {
         calibrated(h);
         return linear(centred_uniform(h, whole(h), c));
       }},
      {{"kivi", false, true, "per channel, scale and zero of 32 tokens"},
       Codebook::reference,
       [](const HeadMap& h, Codebook) -> Made {
         return std::make_unique<Kivi>(h.layout.head_dim, whole(h));
       }},
      {{"kivi-centred", true, true, "KIVI of centred keys"},
       Codebook::reference,
       [](const HeadMap& h, Codebook) -> Made {
         return std::make_unique<Kivi>(h.layout.head_dim, whole(h), to_float(calibrated(h).k_mean));
       }},
      {{"rtn", false, true, "round to nearest, scale and zero per token"},
       Codebook::reference,
       [](const HeadMap& h, Codebook) -> Made {
         return std::make_unique<RoundToNearest>(h.layout.head_dim, whole(h));
       }},
      {{"turboquant-prod", false, true, "TurboQuant-prod: one bit fewer, and the residual's signs"},
       Codebook::reference,
       [](const HeadMap& h, Codebook) -> Made {
         return std::make_unique<TurboquantProd>(h.layout.head_dim, whole(h), h.seed);
       }},
      {{"fp8", false, false, "e4m3: eight bits whatever the budget"},
       Codebook::reference,
       [](const HeadMap& h, Codebook) -> Made { return std::make_unique<Fp8>(h.layout.head_dim); }},
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

std::unique_ptr<Quantizer> make_value_quantizer(const std::string& method, const HeadMap& head,
                                                Codebook codebook) {
  return make(value_entries(), method, head, codebook);
}

}  // namespace blockgtq
