#pragma once
#include <string>

#include "base/error.h"
#include "catch.h"

namespace blockgtq {

/// Runs f, which must throw Error with this exit code; returns its one line.
template <class F>
std::string expect_error(Exit code, F&& f) {
  try {
    f();
  } catch (const Error& e) {
    CHECK(int(e.code) == int(code));
    const std::string what = e.what();
    CHECK(what.find('\n') == what.npos);
    return what;
  }
  FAIL("no Error was thrown");
  return "";
}

}  // namespace blockgtq
