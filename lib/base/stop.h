#pragma once

namespace blockgtq {

/// SIGINT, SIGTERM and SIGUSR1 set a flag; work stops at the next check_stop() with the documented exit code
/// (130, or 75 for the latter two). A second SIGINT ends the process at once, temporary outputs removed. Also
/// installs the handler of mapped_ranges.h.
void install_stop_handlers();

/// Called between layers and chunks; throws Error(Exit::interrupted or Exit::stopped) once a signal came.
void check_stop();

/// Whether SIGTERM or SIGUSR1 came: the next check_stop() throws Exit::stopped, and what is worth keeping is
/// to be saved before.
bool stop_pending();

}  // namespace blockgtq
