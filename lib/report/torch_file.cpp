// The pickle is written opcode by opcode (pickletools names them) and read back by comparing it with the one
// that would be written: nothing here runs what a pickle says.
#include "report/torch_file.h"

#include <cstdint>
#include <cstring>

#include "base/error.h"
#include "report/zip.h"

namespace blockgtq {
namespace {

constexpr const char* kFolder = "rotations/";

class Pickle {
 public:
  Pickle() : bytes_("\x80\x02") {}
  void integer(int value) {
    bytes_ += 'J';
    for (int i = 0; i < 4; ++i) bytes_ += char(uint32_t(value) >> 8 * i & 0xff);
  }
  void text(const std::string& value) {
    bytes_ += 'X';
    for (int i = 0; i < 4; ++i) bytes_ += char(value.size() >> 8 * i & 0xff);
    bytes_ += value;
  }
  void begin_dict() { bytes_ += "}("; }
  void end_dict() { bytes_ += 'u'; }
  void global(const char* module, const char* name) {
    bytes_ += std::string("c") + module + "\n" + name + "\n";
  }
  /// torch._utils._rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict())
  void tensor(const std::string& storage, const std::vector<int>& shape) {
    global("torch._utils", "_rebuild_tensor_v2");
    bytes_ += "((";
    int size = 1;
    for (const int n : shape) size *= n;
    text("storage");
    global("torch", "FloatStorage");
    text(storage);
    text("cpu");
    integer(size);
    bytes_ += "tQ";  // the tuple, and what is kept under it
    integer(0);
    tuple(shape);
    std::vector<int> strides(shape.size(), 1);
    for (size_t i = shape.size() - 1; i > 0; --i) strides[i - 1] = strides[i] * shape[i];
    tuple(strides);
    bytes_ += "\x89";
    global("collections", "OrderedDict");
    bytes_ += ")RtR";
  }
  std::string end() { return bytes_ + "."; }

 private:
  void tuple(const std::vector<int>& values) {
    bytes_ += '(';
    for (const int value : values) integer(value);
    bytes_ += 't';
  }
  std::string bytes_;
};

std::string pickle(const std::vector<int>& numbers, int dim, const std::string& objective) {
  Pickle p;
  p.begin_dict();
  p.text("format_version");
  p.integer(1);
  p.text("objective");
  p.text(objective);
  p.text("source_grouping");
  p.text("layer");
  p.text("layers");
  p.begin_dict();
  for (size_t l = 0; l < numbers.size(); ++l) {
    p.integer(numbers[l]);
    p.begin_dict();
    p.text("layer_id");
    p.integer(numbers[l]);
    p.text("rotation");
    p.tensor(std::to_string(2 * l), {dim, dim});
    p.text("eigenvalues");
    p.tensor(std::to_string(2 * l + 1), {dim});
    p.end_dict();
  }
  p.end_dict();
  p.end_dict();
  return p.end();
}

std::string bytes_of(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

std::vector<float> floats_of(const std::string& bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

}  // namespace

std::string torch_rotations(const std::vector<LayerRotation>& layers, const std::string& objective) {
  std::vector<int> numbers;
  for (const LayerRotation& layer : layers) numbers.push_back(layer.number);
  const int dim = int(layers.at(0).eigenvalues.size());
  const std::string folder = kFolder;
  std::vector<std::pair<std::string, std::string>> entries = {
      {folder + "data.pkl", pickle(numbers, dim, objective)}, {folder + "byteorder", "little"}};
  for (size_t l = 0; l < layers.size(); ++l) {
    entries.emplace_back(folder + "data/" + std::to_string(2 * l), bytes_of(layers[l].rotation));
    entries.emplace_back(folder + "data/" + std::to_string(2 * l + 1), bytes_of(layers[l].eigenvalues));
  }
  entries.emplace_back(folder + "version", "3\n");
  return zip_archive(entries);
}

std::vector<LayerRotation> read_torch_rotations(const std::string& bytes, const std::vector<int>& numbers,
                                                int dim, const std::string& file) {
  const auto entries = unzip(bytes, file);
  const std::string folder = kFolder;
  const auto entry = [&](const std::string& name) -> const std::string& {
    for (const auto& [found, content] : entries)
      if (found == folder + name) return content;
    fail_input("{}: no {}", file, folder + name);
  };
  const std::string& found = entry("data.pkl");
  if (found != pickle(numbers, dim, "qqt") && found != pickle(numbers, dim, "vtv"))
    fail_input("{}: data.pkl: not rotations of {} layers of {} coordinates", file, numbers.size(), dim);
  std::vector<LayerRotation> layers;
  for (size_t l = 0; l < numbers.size(); ++l) {
    layers.push_back({numbers[l], floats_of(entry("data/" + std::to_string(2 * l))),
                      floats_of(entry("data/" + std::to_string(2 * l + 1)))});
    if (layers[l].rotation.size() != size_t(dim) * dim || layers[l].eigenvalues.size() != size_t(dim))
      fail_input("{}: layer {}: {} numbers found, {} wanted", file, numbers[l], layers[l].rotation.size(),
                 dim * dim);
  }
  return layers;
}

}  // namespace blockgtq
