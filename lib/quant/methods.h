#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "quant/codebook.h"
#include "quant/head_map.h"
#include "quant/quantizer.h"

namespace blockgtq {

/// A quantizer by name. Keys and values have lists of their own.
struct Method {
  const char* name;
  bool needs_map;   // bits, means or a basis
  bool whole_bits;  // takes whole bits per coordinate only
  bool trellis;     // can be coded by a trellis
  const char* what;
};
const std::vector<Method>& key_methods();
const std::vector<Method>& value_methods();
/// Null when there is none of that name.
const Method* find_method(const std::vector<Method>& methods, const std::string& name);
std::string method_list(const std::vector<Method>& methods);  // "tq-mse, block-gtq, ..."

/// The quantizer of one layer and KV head, for keys before RoPE and for values. `head` is needed only during
/// the call; average_bits must be whole where the method takes whole bits. Exit::input when the map is of a
/// version that lacks what the method needs. Codebook::by_method: reference for the two published methods,
/// exact for ours; a trellis has tables of its own.
std::unique_ptr<Quantizer> make_key_quantizer(const std::string& method, const HeadMap& head,
                                              Codebook codebook = Codebook::by_method,
                                              Code code = Code::scalar);
/// The widths that its code is made of, per block (B); for klt per pair of its basis, 0 where that is
/// dropped.
std::vector<uint8_t> key_code_bits(const std::string& method, const HeadMap& head);
std::unique_ptr<Quantizer> make_value_quantizer(const std::string& method, const HeadMap& head,
                                                Codebook codebook = Codebook::by_method,
                                                Code code = Code::scalar);

}  // namespace blockgtq
