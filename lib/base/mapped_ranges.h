#pragma once
#include <cstddef>
#include <string>

namespace blockgtq {

/// The files that are mapped now, in static storage that a signal handler can read. Beyond 4096 of them a
/// mapping is not known here.
void claim_range(const void* begin, size_t bytes, const std::string& path);
void forget_range(const void* begin) noexcept;

/// A page of a mapped file that is not there any more (the file was cut, its disk failed) is SIGBUS to
/// whatever thread touches it: from now on it is one error line with the file's name, no temporary outputs,
/// and Exit::input. A SIGBUS elsewhere stays what it is.
void install_bus_error_handler();

}  // namespace blockgtq
