#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace blockgtq {

/// SHA-256 of all bytes given to update().
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  void update(std::span<const std::byte> bytes);
  void update(std::string_view text);
  std::string hex();  // 64 lower-case digits; ends the computation

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// SHA-256 of a text, as 64 lower-case digits.
std::string sha256_hex(std::string_view text);

}  // namespace blockgtq
