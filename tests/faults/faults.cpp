// A library to preload (LD_PRELOAD): the N-th call of a kind fails, behaves oddly, or is the process's last.
//
//   FAULTS=KIND,N,HOW   N counts from 1. HOW is an errno, with "+" behind it for all later calls as well;
//                       "short": half of the bytes (read, write); "kill": SIGKILL in place of the call
//   FAULTS_BOARD=FILE   a FaultBoard: how many calls there were of every kind, and which one failed
//
// Counted is from main() on, in all processes that come of fork(). What the C library calls inside itself is
// not seen: of stdio only fopen() and the fflush() of standard output.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "faults/board.h"

namespace {

constexpr int kNone = 0, kShort = -1, kKill = -2;

FaultBoard* board = nullptr;
bool counting = false;
int faulty = kFaultKinds;
uint64_t nth = 0;
int how = kNone;
bool for_ever = false;

void read_settings() {
  if (const char* file = getenv("FAULTS_BOARD")) {
    const int fd = int(syscall(SYS_openat, AT_FDCWD, file, O_RDWR | O_CLOEXEC, 0));
    void* const at =
        fd < 0 ? MAP_FAILED : mmap(nullptr, sizeof(FaultBoard), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at != MAP_FAILED) board = static_cast<FaultBoard*>(at);
    if (fd >= 0) syscall(SYS_close, fd);
  }
  char kind[16] = "", action[16] = "";
  unsigned long long n = 0;
  const char* text = getenv("FAULTS");
  if (!text || sscanf(text, "%15[a-z],%llu,%15s", kind, &n, action) != 3) return;
  for (int k = 0; k < kFaultKinds; ++k)
    if (strcmp(kind, kFaultNames[k]) == 0) faulty = k;
  nth = n;
  for_ever = strchr(action, '+') != nullptr;
  how = strcmp(action, "short") == 0 ? kShort : strcmp(action, "kill") == 0 ? kKill : atoi(action);
}

/// "/proc/self/fd/N" read as a link, for the driver.
void name_of(int fd, char* out, size_t size) {
  char link[40];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const long n = syscall(SYS_readlinkat, AT_FDCWD, link, out, size - 1);
  out[n > 0 ? n : 0] = 0;
}

/// Where it happened, a library's file, is what the driver asks for.
void on_crash(int signal, siginfo_t*, void* context) {
#ifdef __x86_64__
  Dl_info place{};
  const auto at = static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP];
  if (dladdr(reinterpret_cast<void*>(at), &place) && place.dli_fname)
    snprintf(board->crashed, sizeof board->crashed, "%s", place.dli_fname);
#endif
  syscall(SYS_kill, getpid(), signal);  // its handler is gone by now
}

/// Counts the call; 0 where it is to be made as it is, else kShort or the errno.
int fault(FaultKind kind, const char* call, const char* path, int fd = -1) {
  if (!counting || !board) return kNone;
  const uint64_t n = ++board->calls[kind];
  if (kind != faulty || how == kNone || !(n == nth || (for_ever && n > nth))) return kNone;
  const int saved = errno;
  if (board->failed++ == 0) {
    snprintf(board->call, sizeof board->call, "%s", call);
    if (fd >= 0)
      name_of(fd, board->path, sizeof board->path);
    else
      snprintf(board->path, sizeof board->path, "%s", path ? path : "");
  }
  if (how == kKill) {
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;) pause();
  }
  errno = how == kShort ? saved : how;
  return how;
}

/// Whether this much memory is to be had.
bool room(const char* call, size_t n) {
  return !fault(n < kFaultBlockBytes ? kMemory : kBlock, call, "");
}

size_t shortened(int f, size_t n) {
  return f == kShort && n > 1 ? n / 2 : n;
}

}  // namespace

// The C library's declarations say more than is said here (noexcept, attributes): so the names stand in
// labels.
#define STANDS_FOR(name) __asm__(name) __attribute__((visibility("default")))
#define REAL(name, ...) reinterpret_cast<__VA_ARGS__>(dlsym(RTLD_NEXT, name))

extern "C" {

using Main = int (*)(int, char**, char**);
static Main real_main;
static int counted_main(int argc, char** argv, char** environment) {
  struct sigaction action = {};
  action.sa_sigaction = on_crash;
  action.sa_flags = SA_SIGINFO | SA_RESETHAND;
  if (board) sigaction(SIGSEGV, &action, nullptr);
  counting = true;
  return real_main(argc, argv, environment);
}
int faults_start(Main main, int argc, char** argv, void (*init)(), void (*fini)(), void (*rtld)(),
                 void* stack) STANDS_FOR("__libc_start_main");
int faults_start(Main main, int argc, char** argv, void (*init)(), void (*fini)(), void (*rtld)(),
                 void* stack) {
  read_settings();
  real_main = main;
  return REAL("__libc_start_main", int (*)(Main, int, char**, void (*)(), void (*)(), void (*)(), void*))(
      counted_main, argc, argv, init, fini, rtld, stack);
}

// A call that returns -1: its parameters, and what it is about.
#define FAILING(kind, result, id, name, parameters, arguments, ...) \
  result id parameters STANDS_FOR(name);                            \
  result id parameters {                                            \
    static const auto real = REAL(name, result(*) parameters);      \
    return fault(kind, name, __VA_ARGS__) ? -1 : real arguments;    \
  }

#define OPENING(id, name)                                                   \
  int id(const char* path, int flags, ...) STANDS_FOR(name);                \
  int id(const char* path, int flags, ...) {                                \
    static const auto real = REAL(name, int (*)(const char*, int, ...));    \
    va_list more;                                                           \
    va_start(more, flags);                                                  \
    const int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, int) : 0; \
    va_end(more);                                                           \
    return fault(kOpen, name, path) ? -1 : real(path, flags, mode);         \
  }
OPENING(faults_open, "open")
OPENING(faults_open64, "open64")

#define OPENING_AT(id, name)                                                  \
  int id(int at, const char* path, int flags, ...) STANDS_FOR(name);          \
  int id(int at, const char* path, int flags, ...) {                          \
    static const auto real = REAL(name, int (*)(int, const char*, int, ...)); \
    va_list more;                                                             \
    va_start(more, flags);                                                    \
    const int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, int) : 0;   \
    va_end(more);                                                             \
    return fault(kOpen, name, path) ? -1 : real(at, path, flags, mode);       \
  }
OPENING_AT(faults_openat, "openat")
OPENING_AT(faults_openat64, "openat64")

// A call that returns null.
#define WANTING(kind, result, id, name, parameters, arguments, ...)   \
  result id parameters STANDS_FOR(name);                              \
  result id parameters {                                              \
    static const auto real = REAL(name, result(*) parameters);        \
    return fault(kind, name, __VA_ARGS__) ? nullptr : real arguments; \
  }
WANTING(kOpen, void*, faults_fopen, "fopen", (const char* path, const char* mode), (path, mode), path)
WANTING(kOpen, void*, faults_fopen64, "fopen64", (const char* path, const char* mode), (path, mode), path)
WANTING(kOpen, void*, faults_opendir, "opendir", (const char* path), (path), path)
WANTING(kOpen, void*, faults_fdopendir, "fdopendir", (int fd), (fd), "", fd)
WANTING(kRead, void*, faults_readdir, "readdir", (void* folder), (folder), "")
WANTING(kRead, void*, faults_readdir64, "readdir64", (void* folder), (folder), "")

// A call that moves n bytes.
#define MOVING(kind, id, name, parameters, arguments)           \
  ssize_t id parameters STANDS_FOR(name);                       \
  ssize_t id parameters {                                       \
    static const auto real = REAL(name, ssize_t(*) parameters); \
    const int f = fault(kind, name, "", fd);                    \
    if (f > 0) return -1;                                       \
    n = shortened(f, n);                                        \
    return real arguments;                                      \
  }
MOVING(kRead, faults_read, "read", (int fd, void* data, size_t n), (fd, data, n))
MOVING(kRead, faults_pread, "pread", (int fd, void* data, size_t n, off_t at), (fd, data, n, at))
MOVING(kRead, faults_pread64, "pread64", (int fd, void* data, size_t n, off_t at), (fd, data, n, at))
MOVING(kWrite, faults_write, "write", (int fd, const void* data, size_t n), (fd, data, n))
MOVING(kWrite, faults_pwrite, "pwrite", (int fd, const void* data, size_t n, off_t at), (fd, data, n, at))
MOVING(kWrite, faults_pwrite64, "pwrite64", (int fd, const void* data, size_t n, off_t at), (fd, data, n, at))

int faults_fflush(FILE* stream) STANDS_FOR("fflush");
int faults_fflush(FILE* stream) {
  static const auto real = REAL("fflush", int (*)(FILE*));
  return stream == stdout && fault(kPrint, "fflush", "standard output") ? EOF : real(stream);
}

FAILING(kSync, int, faults_fsync, "fsync", (int fd), (fd), "", fd)
FAILING(kRename, int, faults_rename, "rename", (const char* from, const char* to), (from, to), to)
FAILING(kRename, int, faults_renameat2, "renameat2",
        (int from_at, const char* from, int to_at, const char* to, unsigned flags),
        (from_at, from, to_at, to, flags), to)
FAILING(kLink, int, faults_link, "link", (const char* from, const char* to), (from, to), to)
FAILING(kUnlink, int, faults_unlink, "unlink", (const char* path), (path), path)
FAILING(kUnlink, int, faults_unlinkat, "unlinkat", (int at, const char* path, int flags), (at, path, flags),
        path)
FAILING(kUnlink, int, faults_remove, "remove", (const char* path), (path), path)
FAILING(kUnlink, int, faults_rmdir, "rmdir", (const char* path), (path), path)
FAILING(kFolder, int, faults_mkdir, "mkdir", (const char* path, mode_t mode), (path, mode), path)
FAILING(kStat, int, faults_stat, "stat", (const char* path, void* out), (path, out), path)
FAILING(kStat, int, faults_lstat, "lstat", (const char* path, void* out), (path, out), path)
FAILING(kStat, int, faults_fstat, "fstat", (int fd, void* out), (fd, out), "", fd)
FAILING(kStat, int, faults_fstatat, "fstatat", (int at, const char* path, void* out, int flags),
        (at, path, out, flags), path)
FAILING(kStat, int, faults_stat64, "stat64", (const char* path, void* out), (path, out), path)
FAILING(kStat, int, faults_lstat64, "lstat64", (const char* path, void* out), (path, out), path)
FAILING(kStat, int, faults_fstat64, "fstat64", (int fd, void* out), (fd, out), "", fd)
FAILING(kSize, int, faults_ftruncate, "ftruncate", (int fd, off_t n), (fd, n), "", fd)
FAILING(kSize, int, faults_ftruncate64, "ftruncate64", (int fd, off_t n), (fd, n), "", fd)
FAILING(kSize, int, faults_truncate, "truncate", (const char* path, off_t n), (path, n), path)
FAILING(kSize, off_t, faults_lseek, "lseek", (int fd, off_t to, int from), (fd, to, from), "", fd)
FAILING(kSize, off_t, faults_lseek64, "lseek64", (int fd, off_t to, int from), (fd, to, from), "", fd)
FAILING(kProcess, int, faults_fork, "fork", (), (), "")
FAILING(kProcess, int, faults_pipe2, "pipe2", (int* ends, int flags), (ends, flags), "")

// A close() that fails has closed all the same.
int faults_close(int fd) STANDS_FOR("close");
int faults_close(int fd) {
  static const auto real = REAL("close", int (*)(int));
  const int f = fault(kClose, "close", "", fd);
  const int done = real(fd);
  if (!f || done != 0) return done;
  errno = f;
  return -1;
}

#define LOCKING(id, name)                                                 \
  int id(int fd, int command, ...) STANDS_FOR(name);                      \
  int id(int fd, int command, ...) {                                      \
    static const auto real = REAL(name, int (*)(int, int, ...));          \
    va_list more;                                                         \
    va_start(more, command);                                              \
    void* const argument = va_arg(more, void*);                           \
    va_end(more);                                                         \
    return fault(kLock, name, "", fd) ? -1 : real(fd, command, argument); \
  }
LOCKING(faults_fcntl, "fcntl")
LOCKING(faults_fcntl64, "fcntl64")

#define MAPPING(id, name)                                                                          \
  void* id(void* where, size_t n, int protection, int flags, int fd, off_t from) STANDS_FOR(name); \
  void* id(void* where, size_t n, int protection, int flags, int fd, off_t from) {                 \
    static const auto real = REAL(name, void* (*)(void*, size_t, int, int, int, off_t));           \
    return fault(kMap, name, "", fd) ? MAP_FAILED : real(where, n, protection, flags, fd, from);   \
  }
MAPPING(faults_mmap, "mmap")
MAPPING(faults_mmap64, "mmap64")
FAILING(kMap, int, faults_madvise, "madvise", (void* at, size_t n, int advice), (at, n, advice), "")

// dlsym() may want memory itself: these have other names in glibc.
void* __libc_malloc(size_t n);
void* __libc_calloc(size_t n, size_t size);
void* __libc_realloc(void* old, size_t n);
void* __libc_memalign(size_t alignment, size_t n);
void* faults_malloc(size_t n) STANDS_FOR("malloc");
void* faults_malloc(size_t n) {
  return room("malloc", n) ? __libc_malloc(n) : nullptr;
}
void* faults_calloc(size_t n, size_t size) STANDS_FOR("calloc");
void* faults_calloc(size_t n, size_t size) {
  return room("calloc", n * size) ? __libc_calloc(n, size) : nullptr;
}
void* faults_realloc(void* old, size_t n) STANDS_FOR("realloc");
void* faults_realloc(void* old, size_t n) {
  return room("realloc", n) ? __libc_realloc(old, n) : nullptr;
}
void* faults_memalign(size_t alignment, size_t n) STANDS_FOR("memalign");
void* faults_memalign(size_t alignment, size_t n) {
  return room("memalign", n) ? __libc_memalign(alignment, n) : nullptr;
}
void* faults_aligned_alloc(size_t alignment, size_t n) STANDS_FOR("aligned_alloc");
void* faults_aligned_alloc(size_t alignment, size_t n) {
  return room("aligned_alloc", n) ? __libc_memalign(alignment, n) : nullptr;
}
int faults_posix_memalign(void** out, size_t alignment, size_t n) STANDS_FOR("posix_memalign");
int faults_posix_memalign(void** out, size_t alignment, size_t n) {
  void* const at = room("posix_memalign", n) ? __libc_memalign(alignment, n) : nullptr;
  if (at) *out = at;
  return at ? 0 : ENOMEM;
}

// Returns the error.
int faults_pthread_create(void* thread, const void* attributes, void* (*body)(void*), void* argument)
    STANDS_FOR("pthread_create");
int faults_pthread_create(void* thread, const void* attributes, void* (*body)(void*), void* argument) {
  static const auto real = REAL("pthread_create", int (*)(void*, const void*, void* (*)(void*), void*));
  const int f = fault(kThread, "pthread_create", "");
  return f ? f : real(thread, attributes, body, argument);
}

}  // extern "C"
