#pragma once
#include <filesystem>

namespace blockgtq {

/// ".NAME.PID.tmp", beside the target: what this process writes it to.
std::filesystem::path temporary_of(const std::filesystem::path& target);
/// The target of such a file, which is what a user knows it by; any other path as it is.
std::filesystem::path target_of(const std::filesystem::path& path);

/// The temporary outputs that are open now, in static storage that a signal handler can read.
/// claim_temporary() copies the path and returns a slot, which is not yet live. remove_temporaries() deletes
/// the files of live slots.
int claim_temporary(const std::filesystem::path& path);
void set_temporary_live(int slot);
void forget_temporary(int slot) noexcept;

}  // namespace blockgtq
