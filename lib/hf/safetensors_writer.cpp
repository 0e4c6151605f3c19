#include "hf/safetensors_writer.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"

namespace blockgtq {

SafetensorsWriter::SafetensorsWriter(OutputFile& file, const std::vector<TensorEntry>& entries,
                                     const std::map<std::string, std::string>& metadata)
    : file_(file) {
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  for (const TensorEntry& e : entries) {
    check(!header.contains(e.name), "SafetensorsWriter: a name twice");
    header[e.name] = {
        {"dtype", e.dtype_name}, {"shape", e.shape}, {"data_offsets", {left_, left_ + e.bytes}}};
    left_ += e.bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // the data begin at a multiple of 8, as the format requires
  std::string length;
  for (int i = 0; i < 8; ++i) length += char(uint64_t(text.size()) >> (8 * i) & 0xff);
  file_.write(length + text);
}

void SafetensorsWriter::write(std::span<const std::byte> bytes) {
  check(bytes.size() <= left_, "SafetensorsWriter: more bytes than the header promised");
  left_ -= bytes.size();
  file_.write({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

void SafetensorsWriter::finish() const {
  check(left_ == 0, "SafetensorsWriter: fewer bytes than the header promised");
}

}  // namespace blockgtq
