#pragma once

namespace blockgtq {

/// SIGINT, SIGTERM and SIGUSR1 set a flag. Work stops at the next check_stop() with the documented exit code:
/// 130, or 75 for the latter two. A second SIGINT removes temporary outputs and ends the process at once.
/// Also installs the handler of mapped_ranges.h.
void install_stop_handlers();

/// Throws Error(Exit::interrupted or Exit::stopped) once a signal came. Called between layers and chunks.
void check_stop();

/// Whether SIGTERM or SIGUSR1 came. Then the next check_stop() throws Exit::stopped, so what is worth keeping
/// must be saved before.
bool stop_pending();

}  // namespace blockgtq
