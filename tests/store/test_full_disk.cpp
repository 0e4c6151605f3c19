// A disk that fills up while a file is written. HDF5 reports it late and may crash in its exit handler, or in
// the next call that walks over the objects left open: so all of this happens in a child that writes and
// reads again and ends in exit().
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>

#include "base/error.h"
#include "catch.h"
#include "samples.h"
#include "store/map_file.h"
#include "store/stats_file.h"

using namespace blockgtq;

namespace {

constexpr int kSkipped = 77;

void limit_file_size(rlim_t bytes) {
  struct rlimit limit;
  getrlimit(RLIMIT_FSIZE, &limit);
  limit.rlim_cur = bytes;
  setrlimit(RLIMIT_FSIZE, &limit);
}

/// Whether writing fails as it should: one line, exit code 4, the reason named.
bool fails_well(const std::function<void()>& write, const std::string& path, const std::string& reason) {
  try {
    write();
  } catch (const Error& e) {
    const std::string text = e.what();
    if (e.code == Exit::output && text == path + ": cannot write: " + reason) return true;
    std::fprintf(stderr, "refused with: %s\n", e.what());
    return false;
  }
  std::fprintf(stderr, "written\n");
  return false;
}

/// After failures the process must still be able to write and read every kind.
bool still_works(const fs::path& folder) {
  for (const std::string& kind : kinds()) {
    write_kind(kind, folder / (kind + ".h5"));
    read_kind(kind, folder / (kind + ".h5"));
  }
  return true;
}

/// Incompressible activations of about 500 KB.
void write_large(const fs::path& path) {
  const ActsHeader header = sample_acts(ActsType::f32, 1000);
  write_acts(path, header, sample_activations(header));
}

}  // namespace

TEST_CASE("a file that may not grow: every limit below its size fails, room enough does not",
          "[store][full-disk]") {
  const TempFolder folder;
  std::vector<std::pair<std::string, std::function<void(const fs::path&)>>> writers = {
      {"large", write_large}};
  for (const std::string& kind : kinds())
    writers.emplace_back(kind, [kind](const fs::path& path) { write_kind(kind, path); });
  for (const auto& [name, write] : writers) {
    write(folder / "whole.h5");
    const uint64_t size = fs::file_size(folder / "whole.h5");
    std::vector<uint64_t> limits = {0, 1, 47, 48, 100, 500, 1000, 2048, size - 1};
    for (int i = 1; i < 20; ++i) limits.push_back(size * i / 20);
    CAPTURE(name, size);
    CHECK(in_child([&, &write = write] {
            signal(SIGXFSZ, SIG_IGN);
            limit_file_size(2 * size + 100'000);  // HDF5 reserves blocks and gives the rest back at the end
            write(folder / "fits.h5");
            if (bytes_of(folder / "fits.h5") != bytes_of(folder / "whole.h5")) return 1;
            for (size_t i = 0; i < limits.size(); ++i) {
              const fs::path path = folder / fmt::format("limit{}.h5", i);
              limit_file_size(limits[i]);
              const bool ok = fails_well([&] { write(path); }, path.string(), "File too large");
              limit_file_size(RLIM_INFINITY);
              if (!ok) {
                std::fprintf(stderr, "limit %llu of %llu\n", (unsigned long long)limits[i],
                             (unsigned long long)size);
                return 2;
              }
            }
            return still_works(folder.path) ? 0 : 3;
          }) == 0);
  }
}

TEST_CASE("a full file system", "[store][full-disk]") {
  const TempFolder folder;
  const fs::path disk = folder / "disk";
  fs::create_directory(disk);
  const int status = in_child([&] {
    // A mount of this child's own, which goes away with it.
    if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return kSkipped;
    if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return kSkipped;
    if (mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=256k") != 0) return kSkipped;
    for (int i = 0; i < 3; ++i) {
      const fs::path path = disk / fmt::format("acts{}.h5", i);
      if (!fails_well([&] { write_large(path); }, path.string(), "No space left on device")) return 1;
      // The blocks are free again though the library still holds the file open.
      fs::remove(path);
      if (fs::space(disk).available != 256 * 1024) return 2;
    }
    for (const std::string& kind : kinds()) {
      std::ofstream(disk / "ballast") << std::string(256 * 1024, 'x');
      const fs::path path = disk / (kind + ".h5");
      if (!fails_well([&] { write_kind(kind, path); }, path.string(), "No space left on device")) return 3;
      fs::remove(path);
      fs::remove(disk / "ballast");
    }
    return still_works(disk) ? 0 : 4;
  });
  if (status == kSkipped)
    WARN("skipped: this process may not mount a file system");
  else
    CHECK(status == 0);
}

TEST_CASE("a path that cannot be written", "[store][full-disk]") {
  const TempFolder folder;
  for (const std::string& kind : kinds()) {
    const fs::path path = folder / "missing" / (kind + ".h5");
    CHECK(fails_well([&] { write_kind(kind, path); }, path.string(), "No such file or directory"));
  }
}

TEST_CASE("a writer that is given up half way leaves the process sound", "[store][full-disk]") {
  const TempFolder folder;
  CHECK(in_child([&] {
          {
            const ActsHeader header = sample_acts(ActsType::f32, 3);
            const Acts acts = sample_activations(header);
            ActsWriter writer(folder / "half.h5", header);
            writer.write_layer(0, acts.q[0].data(), acts.k[0].data(), acts.v[0].data());
          }
          return still_works(folder.path) ? 0 : 1;
        }) == 0);
}
