#pragma once
#include <cstddef>
#include <string>

namespace blockgtq {

/// Registers the files that are mapped now, in static storage that a signal handler can read. Mappings beyond
/// 4096 are not registered.
void claim_range(const void* begin, size_t bytes, const std::string& path);
void forget_range(const void* begin) noexcept;

/// Installs a handler for SIGBUS, which a thread gets when it touches a page of a mapped file that is gone
/// (the file was truncated, or its disk failed). The handler prints one error line with the file's name,
/// removes temporary outputs and ends with Exit::input. A SIGBUS elsewhere keeps its default action.
void install_bus_error_handler();

}  // namespace blockgtq
