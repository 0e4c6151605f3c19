#include "hf/safetensors_metadata.h"

#include <cstring>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "hf/safetensors.h"

namespace blockgtq {

std::vector<std::pair<std::string, std::string>> safetensors_metadata(const MappedFile& file) {
  uint64_t length = 0;
  std::memcpy(&length, file.bytes().data(), sizeof length);
  const Json header =
      parse_json(file.text().substr(sizeof length, length), file.path().string(), kMaxHeaderValues);
  std::vector<std::pair<std::string, std::string>> all;
  if (const auto found = header.find("__metadata__"); found != header.end())
    for (const auto& [key, value] : found->items()) all.emplace_back(key, value.get<std::string>());
  return all;
}

}  // namespace blockgtq
