#pragma once
#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace blockgtq {

/// Exit codes of the command line, a contract with scripts (README, "Exit codes").
enum class Exit : int {
  ok = 0,
  defect = 1,     // a defect of ours, and: some models of a panel failed
  usage = 2,      // the command line
  input = 3,      // an input is wrong or not supported
  output = 4,     // an output cannot be written
  device = 5,     // no device, wrong architecture, out of memory
  nonfinite = 6,  // NaN or infinity, named by layer, projection, token
  gate = 7,       // a --fail-if gate was not met
  stopped = 75,   // stopped by a signal after a good checkpoint
  interrupted = 130
};

/// A user's mistake or a failure of the outside world. what() is one line:
/// "FILE: what is wrong: value found, value allowed".
class Error : public std::runtime_error {
 public:
  Error(Exit code, const std::string& what, std::string hint = "")
      : std::runtime_error(what), code(code), hint(std::move(hint)) {}
  Exit code;
  std::string hint;  // printed as a "hint:" line when not empty
};

template <class... A>
[[noreturn]] void fail_input(fmt::format_string<A...> f, A&&... a) {
  throw Error(Exit::input, fmt::format(f, std::forward<A>(a)...));
}

template <class... A>
[[noreturn]] void fail_output(fmt::format_string<A...> f, A&&... a) {
  throw Error(Exit::output, fmt::format(f, std::forward<A>(a)...));
}

/// A condition that only a defect of ours can break; the message reaches the user with exit code 1.
inline void check(bool ok, const char* what) {
  if (!ok) throw std::logic_error(what);
}

}  // namespace blockgtq
