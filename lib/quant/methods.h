#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "quant/codebook.h"
#include "quant/head_map.h"
#include "quant/quantizer.h"

namespace blockgtq {

/// A method by its name on the command line. Keys and values have lists of their own.
struct Method {
  const char* name;
  bool needs_map;    // its bits, means or bases
  bool whole_bits;   // takes whole bits per coordinate only
  bool trellis;      // can have trellis codes
  const char* what;  // a description for tables and help
};
const std::vector<Method>& key_methods();
const std::vector<Method>& value_methods();
/// Null where there is none of that name.
const Method* find_method(const std::vector<Method>& methods, const std::string& name);
std::string method_list(const std::vector<Method>& methods);  // "tq-mse, block-gtq, ..."

/// The quantizer of one layer and KV head: of keys before RoPE, or of values. `head` is needed only during
/// the call. Its average_bits must be whole where the method takes whole bits. Codebook::by_method is
/// `reference` for the two published methods and `exact` for ours; a trellis has tables of its own.
/// Exit::input where the map's version lacks what the method needs. Exit::usage where the map was allocated
/// in another way than the method needs.
std::unique_ptr<Quantizer> make_key_quantizer(const std::string& method, const HeadMap& head,
                                              Codebook codebook = Codebook::by_method,
                                              Code code = Code::scalar);
/// The bit widths of its code: per block (B); for klt per pair of its basis (D / 2), 0 where a pair is
/// dropped.
std::vector<uint8_t> key_code_bits(const std::string& method, const HeadMap& head);
std::unique_ptr<Quantizer> make_value_quantizer(const std::string& method, const HeadMap& head,
                                                Codebook codebook = Codebook::by_method,
                                                Code code = Code::scalar);

}  // namespace blockgtq
