#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>

/// Kinds of calls that faults.cpp counts and makes fail: in FAULTS by name, and the places of Board::calls.
enum FaultKind : int {
  kOpen,
  kRead,
  kWrite,
  kPrint,
  kSync,
  kRename,
  kLink,
  kUnlink,
  kFolder,
  kClose,
  kStat,
  kSize,
  kLock,
  kMap,
  kMemory,
  kBlock,
  kThread,
  kProcess,
  kFaultKinds
};
inline constexpr const char* kFaultNames[kFaultKinds] = {
    "open",  "read", "write", "print", "sync", "rename", "link",  "unlink", "folder",
    "close", "stat", "size",  "lock",  "map",  "memory", "block", "thread", "process"};

inline constexpr size_t kFaultBlockBytes = 16 << 10;  // at least so much memory at once is a block

/// What FAULTS_BOARD holds; faulty.py knows it, too.
struct FaultBoard {
  std::atomic<uint64_t> calls[kFaultKinds];
  std::atomic<uint64_t> failed;  // calls
  char call[32];                 // the first of them, and the file that it was about
  char path[864];
  char crashed[96];  // the program or library whose code SIGSEGV interrupted
};
