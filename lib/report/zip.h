#pragma once
#include <string>
#include <utility>
#include <vector>

namespace blockgtq {

/// A ZIP archive whose entries are not compressed, in this order, without dates: what numpy and PyTorch keep
/// arrays in. Names and contents are below 4 GiB.
std::string zip_archive(const std::vector<std::pair<std::string, std::string>>& entries);
/// The entries of such an archive. Exit::input with `file` for any other, and for a wrong checksum.
std::vector<std::pair<std::string, std::string>> unzip(const std::string& bytes, const std::string& file);

}  // namespace blockgtq
