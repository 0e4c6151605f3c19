// The JSON that every other reader begins with: what is taken is what our own text of it gives back.
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "reader.h"

namespace blockgtq {

void fuzz_json(std::string_view input) {
  const Json json = parse_json(input, "f");
  if (json.is_number_float()) return;  // -0 and 0 are one number to nlohmann
  check(parse_json(dump_json(json), "again") == json, "JSON does not read back");
}

}  // namespace blockgtq
