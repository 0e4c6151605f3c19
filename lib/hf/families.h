#pragma once
#include <span>

#include "hf/config.h"
#include "hf/config_fields.h"

namespace blockgtq {

/// Which projections of attention have biases.
enum class Bias {
  always_qkv,  // whatever the config says
  on_qkvo,     // attention_bias: of q, k, v and o
  on_qkv,      // attention_bias: of q, k and v
  qkv_key,     // qkv_bias, true where it is not given
  out_key,     // attention_bias of q, k and v, attention_out_bias of o
  use_bias,    // use_bias: of everything
  never
};
/// On which layers a sliding_window applies, where layer_types does not say.
enum class Windows {
  none,        // no layer, and layer_types may not name any
  all,         // every layer, unless sliding_window is null
  late,        // with use_sliding_window: layers from max_window_layers on
  all_opt_in,  // with use_sliding_window: every layer
  even,        // with use_sliding_window: every other layer below max_window_layers
  pattern,     // all but every sliding_window_pattern-th layer
  unrotated    // with use_sliding_window: the layers without RoPE
};
/// Which layers have no RoPE.
enum class NoRope {
  none,
  listed,       // every no_rope_layer_interval-th, or where no_rope_layers has 0
  full_layers,  // those without a window, where the model has one
};
/// How a config spells its experts.
enum class ExpertFields { none, qwen, mixtral, ernie, deepseek_v2, deepseek_v3 };

/// A model_type: how it differs from the defaults of Config, which are Llama's. Source: transformers, the
/// model's configuration_*.py and modeling_*.py.
struct Family {
  const char* model_type;
  const char* defaults = "{}";  // what transformers assumes where the config says nothing
  Dialect dialect = Dialect::llama;
  Bias bias = Bias::never;
  bool mlp_bias = false;  // the config's mlp_bias is read
  Pairing pairing = Pairing::half;
  double partial = 0;  // rotary share of a head where the config names none; 0: all of it, whatever is named
  bool mrope = false;  // positions have three axes, which are equal on text
  Windows windows = Windows::none;
  NoRope no_rope = NoRope::none;
  bool local_rope = false;  // sliding layers have frequencies of their own
  ExpertFields experts = ExpertFields::none;
  NormPlace norm_place = NormPlace::before;
  NormForm norm_form = NormForm::rms;
  double norm_offset = 0;
  QkNorm qk_norm = QkNorm::none;
  bool sinks = false, gated_output = false, delta_layers = false;
};

/// All supported families.
std::span<const Family> families();

/// The family that the config's model_type names. Exit::input lists the known ones.
const Family& find_family(const ConfigFields& config);

/// The object that describes the decoder: the config itself, or the text_config of a vision model whose text
/// tower is supported, with what the outer object says for it. Exit::input where it is neither.
Json text_object(const ConfigFields& config);

}  // namespace blockgtq
