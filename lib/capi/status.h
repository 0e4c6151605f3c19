#pragma once
#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <utility>

#include "capi/blockgtq.h"

namespace blockgtq::capi {

/// What a call answers with: its code, and its text for blockgtq_last_error().
class Fault : public std::runtime_error {
 public:
  Fault(blockgtq_status status, const std::string& what) : std::runtime_error(what), status(status) {}
  blockgtq_status status;
};

template <class... A>
[[noreturn]] void fail(blockgtq_status status, fmt::format_string<A...> f, A&&... a) {
  throw Fault(status, fmt::format(f, std::forward<A>(a)...));
}

/// Answers BLOCKGTQ_USAGE unless `ok`.
template <class... A>
void require(bool ok, fmt::format_string<A...> f, A&&... a) {
  if (!ok) fail(BLOCKGTQ_USAGE, f, std::forward<A>(a)...);
}

/// Turns the exception that is being handled into a code, and keeps its text for this thread behind the name
/// of the call. To be called in a catch block.
blockgtq_status take_exception(const char* call) noexcept;
const char* last_text() noexcept;

/// Runs the body of a call. No exception leaves it.
template <class F>
blockgtq_status guarded(const char* call, const F& body) noexcept {
  try {
    body();
    return BLOCKGTQ_OK;
  } catch (...) {
    return take_exception(call);
  }
}

}  // namespace blockgtq::capi
