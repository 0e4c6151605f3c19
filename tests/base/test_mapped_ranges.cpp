// A mapped file that becomes shorter. Each case runs in a child process, which the signal ends.
#include "base/mapped_ranges.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <thread>

#include "base/file.h"
#include "base/stop.h"
#include "catch.h"
#include "temp_folder.h"

using namespace blockgtq;

namespace {

constexpr size_t kPages = 4, kPage = 4096;

struct End {
  int status = 0;
  std::string err;
};

/// What becomes of a process that has installed the handlers and does this.
End in_child(const fs::path& err, const std::function<void()>& work) {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    dup2(open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDERR_FILENO);
    install_stop_handlers();
    work();
    _exit(77);
  }
  End end;
  waitpid(child, &end.status, 0);
  end.err = get_file(err);
  return end;
}

char read_at(const void* data, size_t at) {
  return static_cast<const volatile char*>(data)[at];
}

}  // namespace

TEST_CASE("a mapped file that became shorter is an input error with its name, in whatever thread") {
  const TempFolder folder;
  const fs::path path = folder / "weights\nx", other = folder / "other", out = folder / "out";
  const std::string line = "error: " + (folder / "weights?x").string() +
                           ": cannot be read any more: it became shorter, or its disk failed\n";
  put_file(other, "other");
  const auto cut = [&](const std::function<void(const MappedFile&)>& use) {
    put_file(path, std::string(kPages * kPage, 'x'));
    const End end = in_child(folder / "err", [&] {
      const MappedFile before(other);
      MappedFile first(path);
      const MappedFile file(std::move(first));  // moved, it is still known
      OutputFile result(out, false);
      fs::resize_file(path, kPage);
      read_at(file.bytes().data(), kPage - 1);  // what is left can be read
      use(file);
    });
    CHECK(WIFEXITED(end.status));
    CHECK(WEXITSTATUS(end.status) == 3);
    CHECK(end.err == line);
    CHECK(folder.entries() == 3);  // weights, other, err: no temporary output
  };
  cut([](const MappedFile& file) { read_at(file.bytes().data(), kPage); });
  cut([](const MappedFile& file) {
    std::thread([&] { read_at(file.bytes().data(), kPages * kPage - 1); }).join();
  });
  cut([](const MappedFile& file) {  // several at once: one line
    std::vector<std::thread> threads;
    for (size_t i = 1; i < kPages; ++i)
      threads.emplace_back([&file, i] { read_at(file.bytes().data(), i * kPage); });
    for (std::thread& t : threads) t.join();
  });
  cut([&](const MappedFile& file) {  // a system call meets the page: no signal, but the same words
    OutputFile copy(folder / "copy", false);
    copy.write(file.text());
  });
}

TEST_CASE("a bus error outside of the mapped files stays one") {
  const TempFolder folder;
  const fs::path path = folder / "a";
  put_file(path, std::string(2 * kPage, 'x'));
  const End end = in_child(folder / "err", [&] {
    { const MappedFile gone(path); }  // forgotten with its mapping
    const int fd = open(path.c_str(), O_RDONLY);
    void* data = mmap(nullptr, 2 * kPage, PROT_READ, MAP_PRIVATE, fd, 0);
    fs::resize_file(path, 1);
    read_at(data, kPage);
  });
  CHECK(WIFSIGNALED(end.status));
  CHECK(WTERMSIG(end.status) == SIGBUS);
  CHECK(end.err.empty());
}
