// A folder of one of the small trained models with its matrices in FP8, and one with the same numbers in
// float32.
#pragma once
#include <algorithm>
#include <cmath>
#include <map>
#include <string>

#include "base/float16.h"
#include "base/float8.h"
#include "hf/gguf_of.h"
#include "hf/safetensors_builder.h"

namespace blockgtq::test {

/// How a folder is quantized: what its config says, and the same for what writes it.
struct Fp8Kind {
  const char* name;
  const char* config;        // quantization_config
  const char* scale_ending;  // behind a weight's name
  const char* scale_dtype;   // F32 or BF16
  uint64_t block_rows, block_cols;
};

constexpr uint64_t kAll = uint64_t(1) << 32;
// Blocks that divide no dimension of the models, and those that are usual.
inline constexpr Fp8Kind kFp8Kinds[] = {
    {"fp8", R"({"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128],
                "modules_to_not_convert": ["lm_head", "model.embed_tokens"]})",
     "_scale_inv", "F32", 128, 128},
    {"odd blocks", R"({"quant_method": "fp8", "weight_block_size": [48, 80]})", "_scale_inv", "BF16", 48, 80},
    {"one scale", R"({"quant_method": "fp8", "weight_block_size": null, "activation_scheme": "static"})",
     "_scale_inv", "F32", kAll, kAll},
    {"channels", R"({"quant_method": "compressed-tensors", "format": "float-quantized", "ignore": ["lm_head"],
                     "config_groups": {"group_0": {"targets": ["Linear"], "input_activations": {"dynamic": true},
                     "weights": {"type": "float", "num_bits": 8, "strategy": "channel"}}}})",
     "_scale", "BF16", 1, kAll}};

inline uint8_t nearest_e4m3(float value) {
  const auto far = [&](uint8_t code) { return std::abs(from_e4m3(code) - value); };
  uint8_t low = 0, high = 0x7e;  // codes of numbers above 0 are in their order
  const uint8_t sign = value < 0 ? 0x80 : 0;
  while (low < high) {
    const uint8_t middle = uint8_t((low + high) / 2);
    if (from_e4m3(middle) < std::abs(value)) {
      low = uint8_t(middle + 1);
    } else {
      high = middle;
    }
  }
  const uint8_t below = low > 0 ? uint8_t(low - 1) : low;
  return far(low | sign) <= far(below | sign) ? low | sign : below | sign;
}

/// The tensors of a folder, matrices but embedding and head quantized; and what they are in float32.
struct QuantizedTensors {
  std::map<std::string, Stored> stored, plain;
};

inline void quantize(const std::string& name, const Stored& t, const Fp8Kind& kind, QuantizedTensors& out) {
  const uint64_t rows = t.shape[0], cols = t.shape[1];
  const uint64_t height = std::min(rows, kind.block_rows), width = std::min(cols, kind.block_cols);
  const auto value = [&](uint64_t i) {
    return from_bf16(uint16_t(uint8_t(t.bytes[2 * i]) | uint8_t(t.bytes[2 * i + 1]) << 8));
  };
  const bool wide = kind.scale_dtype == std::string("F32");
  Stored codes{"F8_E4M3", t.shape, std::string(rows * cols, '\0')};
  Stored scales{kind.scale_dtype, {(rows + height - 1) / height, (cols + width - 1) / width}, ""};
  Stored plain{"F32", t.shape, std::string(4 * rows * cols, '\0')};
  for (uint64_t r0 = 0; r0 < rows; r0 += height) {
    for (uint64_t c0 = 0; c0 < cols; c0 += width) {
      const uint64_t r1 = std::min(rows, r0 + height), c1 = std::min(cols, c0 + width);
      float most = 0;
      for (uint64_t r = r0; r < r1; ++r)
        for (uint64_t c = c0; c < c1; ++c) most = std::max(most, std::abs(value(r * cols + c)));
      const float scale = wide ? most / 448 : from_bf16(to_bf16(most / 448));
      scales.bytes += wide ? raw(scale) : raw(to_bf16(scale));
      for (uint64_t r = r0; r < r1; ++r) {
        for (uint64_t c = c0; c < c1; ++c) {
          const uint8_t code = nearest_e4m3(scale == 0 ? 0 : value(r * cols + c) / scale);
          codes.bytes[r * cols + c] = char(code);
          plain.bytes.replace(4 * (r * cols + c), 4, raw(from_e4m3(code) * scale));
        }
      }
    }
  }
  out.plain[name] = plain;
  out.stored[name] = codes;
  out.stored[name + kind.scale_ending] = scales;
}

inline QuantizedTensors quantized_tensors(const fs::path& folder, const Fp8Kind& kind) {
  QuantizedTensors out;
  for (const auto& [name, t] : stored_tensors(folder)) {
    if (t.shape.size() == 2 && name.find("embed") == name.npos && name.find("lm_head") == name.npos)
      quantize(name, t, kind, out);
    else
      out.plain[name] = out.stored[name] = t;
  }
  return out;
}

/// A folder of these tensors beside the other files of `model`; config: quantization_config, or null.
inline void write_folder(const fs::path& folder, const fs::path& model,
                         const std::map<std::string, Stored>& tensors, const char* config) {
  fs::create_directories(folder);
  SafetensorsBuilder builder;
  for (const auto& [name, t] : tensors) builder.add(name, t.dtype, {t.shape.begin(), t.shape.end()}, t.bytes);
  builder.write(folder / "model.safetensors");
  nlohmann::json json = nlohmann::json::parse(file_bytes(model / "config.json"));
  if (config) json["quantization_config"] = nlohmann::json::parse(config);
  write_bytes(folder / "config.json", json.dump());
  fs::copy(model / "tokenizer.json", folder / "tokenizer.json", fs::copy_options::overwrite_existing);
}

}  // namespace blockgtq::test
