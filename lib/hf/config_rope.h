#pragma once
#include "hf/config.h"
#include "hf/config_fields.h"

namespace blockgtq {

/// What a dialect fixes about RoPE outside its RoPE fields.
struct RopeDialect {
  Pairing pairing = Pairing::half;
  int head_dim = 0;
  double partial = 1;          // rotary share of the head where the config names none
  bool whole_head = true;      // every coordinate is rotated, whatever share the config names
  bool mrope = false;          // mrope counts as the default kind
  bool longrope_only = false;  // "su" and "yarn" are older names of longrope
};

/// Reads RoPE in both spellings: rope_theta and rope_scaling (key type), and rope_parameters (key rope_type).
/// Where both exist they must agree. What is ignored is added to `remarks`, a line each. Errors are
/// Exit::input.
RopeConfig parse_rope(const ConfigFields& config, const RopeDialect& dialect, int max_position,
                      std::vector<std::string>& remarks);

}  // namespace blockgtq
