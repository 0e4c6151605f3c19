#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <functional>

#include "base/file.h"
#include "catch.h"
#include "expect_error.h"
#include "temp_folder.h"

using namespace blockgtq;

TEST_CASE("a mapped file shows the file's bytes") {
  const TempFolder folder;
  put_file(folder / "a", "some text\n");
  MappedFile file(folder / "a");
  CHECK(file.text() == "some text\n");
  CHECK(file.bytes().size() == 10);
  CHECK(file.path() == folder / "a");

  MappedFile moved(std::move(file));
  CHECK(moved.text() == "some text\n");
  CHECK(file.bytes().empty());
  put_file(folder / "b", "other");
  moved = MappedFile(folder / "b");
  CHECK(moved.text() == "other");
}

TEST_CASE("an empty file maps to nothing") {
  const TempFolder folder;
  put_file(folder / "empty", "");
  const MappedFile file(folder / "empty");
  CHECK(file.bytes().data() == nullptr);
  CHECK(file.bytes().size() == 0);
  CHECK(file.text().empty());
  file.prefetch(file.bytes());
  file.release(file.bytes());
}

TEST_CASE("what cannot be mapped is named") {
  const TempFolder folder;
  const auto map = [](const fs::path& p) { return expect_error(Exit::input, [&] { MappedFile f(p); }); };
  const auto read = [](const fs::path& p) { return expect_error(Exit::input, [&] { read_text(p, 10); }); };

  const std::string missing = (folder / "none").string() + ": cannot open: No such file or directory";
  CHECK(map(folder / "none") == missing);
  CHECK(read(folder / "none") == missing);

  const std::string not_file = folder.path().string() + ": not a regular file: it is a folder";
  CHECK(map(folder.path()) == not_file);
  CHECK(read(folder.path()) == not_file);

  // Without a writer, a plain open of a FIFO would wait for ever.
  REQUIRE(mkfifo((folder / "pipe").c_str(), 0600) == 0);
  CHECK_THAT(map(folder / "pipe"), ContainsSubstring("not a regular file"));
  CHECK_THAT(read(folder / "pipe"), ContainsSubstring("not a regular file"));

  put_file(folder / "a", "x");
  CHECK_THAT(map(folder / "a" / "b"), ContainsSubstring("Not a directory"));
}

TEST_CASE("a Git LFS pointer is refused as what it is") {
  const TempFolder folder;
  const std::string pointer =
      "version https://git-lfs.github.com/spec/v1\n"
      "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 2758896\n";
  put_file(folder / "model.safetensors", pointer);
  const fs::path path = folder / "model.safetensors";
  const std::function<void()> ways[] = {[&] { MappedFile f(path); }, [&] { read_text(path, 4096); }};
  for (const auto& read : ways) {
    try {
      read();
      FAIL("accepted");
    } catch (const Error& e) {
      CHECK(e.code == Exit::input);
      CHECK(e.what() == path.string() + ": a Git LFS pointer: the file itself was not fetched");
      CHECK(e.hint == "git -C " + folder.path().string() + " lfs pull");
    }
  }
  // A text about git-lfs is a text.
  put_file(path, pointer + std::string(1024, 'x'));
  CHECK(MappedFile(path).bytes().size() == pointer.size() + 1024);
  put_file(path, "The " + pointer);
  CHECK(read_text(path, 4096) == "The " + pointer);
}

TEST_CASE("read_text reads up to its limit and not a byte more") {
  const TempFolder folder;
  put_file(folder / "ten", "0123456789");
  CHECK(read_text(folder / "ten", 10) == "0123456789");
  CHECK(read_text(folder / "ten", 11) == "0123456789");
  CHECK(expect_error(Exit::input, [&] { read_text(folder / "ten", 9); }) ==
        (folder / "ten").string() + ": file too large: 10 bytes, at most 9");
  put_file(folder / "empty", "");
  CHECK(read_text(folder / "empty", 0).empty());

  // Its size is said to be 0, its content is not: the limit holds for what is read.
  CHECK_THAT(read_text("/proc/self/status", 1 << 20), ContainsSubstring("VmRSS"));
  CHECK_THAT(expect_error(Exit::input, [] { read_text("/proc/self/status", 10); }),
             ContainsSubstring("file too large"));
}

namespace {

size_t resident_bytes() {
  size_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * size_t(sysconf(_SC_PAGESIZE));
}

}  // namespace

TEST_CASE("released pages leave the resident set and read back the same") {
  constexpr size_t kBytes = 32 << 20;
  const TempFolder folder;
  {
    std::string text(kBytes, '\0');
    for (size_t i = 0; i < kBytes; i += 4096) std::memcpy(&text[i], &i, sizeof i);
    put_file(folder / "big", text);
  }
  const MappedFile file(folder / "big");
  const auto sum = [&] {
    size_t s = 0;
    for (size_t i = 0; i < kBytes; i += 4096) s += size_t(file.bytes()[i + 1]) + size_t(file.bytes()[i + 2]);
    return s;
  };
  file.prefetch(file.bytes());
  const size_t first = sum();
  const size_t before = resident_bytes();
  file.release(file.bytes());
  const size_t after = resident_bytes();
  // All of the file was resident; a quarter is left as room for whatever else the process does meanwhile.
  CHECK(after + kBytes * 3 / 4 < before);
  CHECK(sum() == first);

  // Odd ranges: only whole pages inside are released, nothing else breaks.
  file.release(file.bytes().subspan(1, 4095));
  file.release(file.bytes().subspan(4095, 2));
  file.prefetch(file.bytes().subspan(kBytes - 1, 1));
  file.release(file.bytes().subspan(kBytes - 1, 1));
  CHECK(sum() == first);

  const std::byte elsewhere{};
  CHECK_THROWS_AS(file.release({&elsewhere, 1}), std::logic_error);
  CHECK_THROWS_AS(file.prefetch({file.bytes().data(), kBytes + 1}), std::logic_error);
}
