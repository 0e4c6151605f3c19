#pragma once
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"

namespace blockgtq {

/// SHA-256 over every byte of some files, computed by threads of its own while other work goes on. It is over
/// each file's length and the digests of its pieces of 16 MiB, in order, so it does not depend on the number
/// of threads.
class Fingerprint {
 public:
  explicit Fingerprint(const std::vector<fs::path>& files);  // begins
  Fingerprint(const Fingerprint&) = delete;
  ~Fingerprint();  // ends the computation, finished or not

  /// 64 hexadecimal digits; waits for them. Exit::input where a file cannot be read, and what check_stop()
  /// throws meanwhile.
  std::string hex();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// One Fingerprint for all callers that ask about the same files in the same state: two texts of one model
/// read its weights once.
std::shared_ptr<Fingerprint> shared_fingerprint(const std::vector<fs::path>& files);

}  // namespace blockgtq
