#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace blockgtq {

/// An array as numpy's format 1.0: `descr` such as "<i8", C order. `data` are its bytes as the machine holds
/// them (little endian).
std::string npy_array(const std::string& descr, const std::vector<size_t>& shape, const std::string& data);
/// The data of such an array of just this type and shape. Exit::input with `file` for any other.
std::string npy_data(const std::string& bytes, const std::string& descr, const std::vector<size_t>& shape,
                     const std::string& file);

}  // namespace blockgtq
