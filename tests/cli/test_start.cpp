// What a command needs before it does anything.
#include "cli/command.h"

namespace blockgtq {

TEST_CASE("no CUDA library and no driver is needed to start") {
  // The dynamic linker lists what it would load, and runs nothing.
  const Outcome outcome = good({"--version"}, {"LD_TRACE_LOADED_OBJECTS=1"});
  CHECK_THAT(outcome.out, ContainsSubstring("libc.so"));
  CHECK_THAT(outcome.out, !ContainsSubstring("libcu"));
  CHECK_THAT(outcome.out, !ContainsSubstring("libnv"));
}

}  // namespace blockgtq
