#pragma once
#include <string>

#include "quant/attention_shape.h"
#include "store/h5_input.h"
#include "store/h5_output.h"

namespace blockgtq {

/// What every file of ours begins with.
/// - Attributes n_layers, n_heads, n_kv_heads, v_dim, head_dim, rotary_dim, pairing ("half", "interleaved"),
///   signature.
/// - Datasets inv_freq and inv_freq_raw (rotary_dim / 2, fewer under the published pairing) float64, modules
///   (n_layers), and provenance (n, 2) of text: keys and values in the order to print.
/// Where AttentionShape::special() (layers differ, or logits are not q k^T / sqrt(D)), schema_version is
/// kSpecialVersion, which older readers refuse. Such a file has the attribute sinks (0, 1), and may have more
/// datasets:
/// - rope_of_layer (n_layers) int32, with more_inv_freq and more_inv_freq_raw (k, n) and
///   more_attention_factor (k): the frequencies of number 1 and up;
/// - windows (n_layers) int32; logit_scale and logit_softcap (1).
struct Preamble {
  AttentionShape shape;
  std::string signature;
  Provenance provenance;
};

inline constexpr int64_t kSpecialVersion = 3;
/// The schema_version of a file about this shape, of a schema whose version is otherwise `plain`.
int64_t version_for(const AttentionShape& shape, int64_t plain = 1);

/// Writes and reads what Preamble describes. Exit::output and Exit::input as H5Output and H5Input.
void write_preamble(H5Output& file, const AttentionShape& shape, const std::string& signature,
                    const Provenance& provenance);
Preamble read_preamble(const H5Input& file);

inline constexpr int64_t kMaxStoredTokens = int64_t(1) << 30;  // a corpus has at most 1 GB

std::string layer_name(int layer);  // "layer07"

/// Exit::input "PATH: NAME: value found, allowed ..." unless every value is finite and not below `least`.
void check_finite(const H5Input& file, const std::string& name, const std::vector<double>& values,
                  double least);

}  // namespace blockgtq
