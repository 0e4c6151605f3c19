#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "base/blocks.h"

namespace blockgtq {

/// What calibration knows of one KV head besides the published energies. Means are over the calibration
/// tokens.
struct HeadCalibration {
  std::vector<double> q_energy;  // (B) Eq: E|q^(i)|^2; every query head of the group is a sample
  std::vector<double> k_energy;  // (B) Ek: E|k^(i)|^2, before centring
  std::vector<double> k_mean;    // (D) before RoPE
  std::vector<double> v_mean;    // (Dv); empty without values

  // The weighted Karhunen-Loeve basis of keys before RoPE (quant/klt.h); empty where k k^T was not known.
  std::vector<double> k_spectrum;  // (D) lambda, descending
  std::vector<float> k_forward;    // (D, D) U^T S: z = k_forward (k - k_mean)
  std::vector<float> k_backward;   // (D, D) S^-1 U

  // The weighted Karhunen-Loeve basis of values; empty where W_o was not known.
  std::vector<double> v_spectrum;  // (Dv) lambda, descending
  std::vector<float> v_forward;    // (Dv, Dv) U^T S: z = v_forward (v - v_mean)
  std::vector<float> v_backward;   // (Dv, Dv) S^-1 U

  // M centres of keys and M of values; empty where there was no sample.
  std::vector<float> k_centres;  // (M, D) of k - k_mean, before RoPE
  std::vector<float> v_centres;  // (M, Dv) of v - v_mean

  bool operator==(const HeadCalibration&) const = default;
};

/// One layer and KV head of a map at one budget: all that a quantizer is made from. It points into the map.
struct HeadMap {
  BlockLayout layout;
  int v_dim = 0;
  uint64_t seed = 42;
  double average_bits = 3;
  std::span<const uint8_t> bits;                 // (B) by the published energy score; empty without a map
  std::span<const uint8_t> product_bits;         // (B) by the product score; empty in older maps
  std::span<const uint8_t> key_bits;             // (D / 2) per pair of k_spectrum, 0..8
  std::span<const uint8_t> value_bits;           // (Dv / 2) per pair of v_spectrum, 0..8
  const HeadCalibration* calibration = nullptr;  // null in older maps
  int min_bits = 1, max_bits = 8;                // limits of a block
  bool published = true;                         // bits by greedy at nominal cost, with a budget per head
};

}  // namespace blockgtq
