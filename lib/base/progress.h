#pragma once
#include <cstdint>
#include <memory>
#include <string>

namespace blockgtq {

/// Receives the library's progress. The library never prints; the application passes one of these in.
class Progress {
 public:
  virtual ~Progress() = default;
  virtual void begin(const std::string& /*what*/, int64_t /*steps*/) {}
  virtual void step(const std::string& /*detail*/) {}  // one more step is done
  virtual void end() {}
  virtual void warn(const std::string& /*text*/) {}  // the same text is shown once
};

/// How progress is shown on stderr.
enum class ProgressStyle { automatic, bar, plain, json, none };

/// Writes to stderr: bar with an estimate of the time left, one line per step, or one JSON object per line.
/// automatic is bar where stderr is a terminal, else plain.
std::unique_ptr<Progress> make_progress(ProgressStyle style, bool quiet);

}  // namespace blockgtq
