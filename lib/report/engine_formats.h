#pragma once
#include "report/engine_export.h"

// The two sides of every EngineFormat; each pair is a source file export_*.cpp.
namespace blockgtq {

EngineExport write_llama_ctk(const BitMap&, const Budget&, const EngineOptions&);
EngineExport write_vllm_skip_layers(const BitMap&, const Budget&, const EngineOptions&);
EngineExport write_modelopt(const BitMap&, const Budget&, const EngineOptions&);
EngineExport write_turboquant_kv(const BitMap&, const Budget&, const EngineOptions&);
EngineExport write_ranges(const BitMap&, const Budget&, const EngineOptions&);
EngineExport write_vbr_degrade_order(const BitMap&, const Budget&, const EngineOptions&);
EngineExport write_reference_npz(const BitMap&, const Budget&, const EngineOptions&);
EngineExport write_oscar(const BitMap&, const Budget&, const EngineOptions&);

using EngineBits = std::vector<uint8_t>;
EngineBits read_llama_ctk(const std::string&, const BitMap&, const Budget&, const std::string& file);
EngineBits read_vllm_skip_layers(const std::string&, const BitMap&, const Budget&, const std::string& file);
EngineBits read_modelopt(const std::string&, const BitMap&, const Budget&, const std::string& file);
EngineBits read_turboquant_kv(const std::string&, const BitMap&, const Budget&, const std::string& file);
EngineBits read_ranges(const std::string&, const BitMap&, const Budget&, const std::string& file);
EngineBits read_vbr_degrade_order(const std::string&, const BitMap&, const Budget&, const std::string& file);
EngineBits read_reference_npz(const std::string&, const BitMap&, const Budget&, const std::string& file);
EngineBits read_oscar(const std::string&, const BitMap&, const Budget&, const std::string& file);

}  // namespace blockgtq
