#include <sys/stat.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "base/expect_error.h"
#include "base/temp_folder.h"
#include "catch.h"
#include "tasks/sample_file.h"

using namespace blockgtq;

namespace {

const Json kHead = {{"schema", "blockgtq.samples/1"}, {"model", "a"}, {"temperature", 0.5}};

Json sample(const std::string& cache, const std::string& id) {
  return {{"cache", cache}, {"id", id}, {"text", "caf\u00E9\n"}, {"score", 1.0 / 3}};
}

}  // namespace

TEST_CASE("sample file: what was added is found again, under its cache and id") {
  TempFolder dir;
  const std::string path = dir / "a.jsonl";
  {
    SampleFile file(path, kHead, Resume::automatic, false);
    CHECK(file.find("exact", "1") == nullptr);
    file.add(sample("exact", "1"));
    CHECK(file.find("exact", "1"));
  }
  SampleFile file(path, kHead, Resume::must, false);
  REQUIRE(file.find("exact", "1"));
  CHECK(*file.find("exact", "1") == sample("exact", "1"));
  CHECK(file.find("exact", "2") == nullptr);
  CHECK(file.find("K2", "1") == nullptr);
  file.add(sample("K2", "1"));
  const std::string text = get_file(path);
  CHECK(std::count(text.begin(), text.end(), '\n') == 3);
}

TEST_CASE("sample file: what a killed run left unfinished is dropped, wherever it ended") {
  TempFolder dir;
  const std::string path = dir / "a.jsonl";
  {
    SampleFile file(path, kHead, Resume::automatic, false);
    file.add(sample("exact", "1"));
    file.add(sample("exact", "2"));
  }
  const std::string whole = get_file(path);
  const size_t second = whole.rfind("{\"cache\"");
  for (size_t n = 0; n < whole.size(); ++n) {
    put_file(path, whole.substr(0, n));
    SampleFile file(path, kHead, Resume::automatic, false);
    CHECK((file.find("exact", "1") != nullptr) == (n >= second));
    CHECK(file.find("exact", "2") == nullptr);
    if (!file.find("exact", "1")) file.add(sample("exact", "1"));
    file.add(sample("exact", "2"));
    CHECK(get_file(path) == whole);
  }
  put_file(path, whole.substr(0, whole.size() - 20) + std::string(19, '\0') + "\n");  // a machine went down
  CHECK(SampleFile(path, kHead, Resume::automatic, false).find("exact", "1"));
  CHECK(get_file(path) == whole.substr(0, second));
}

TEST_CASE("sample file: another run's is refused field by field, another file's untouched") {
  TempFolder dir;
  const std::string path = dir / "a.jsonl";
  { SampleFile(path, kHead, Resume::automatic, false).add(sample("exact", "1")); }
  const std::string whole = get_file(path);
  Json other = kHead;
  other["model"] = "b";
  other["temperature"] = 0;
  other["seed"] = 1;
  const auto open = [&](const Json& head, Resume resume, bool force) {
    return [=] { SampleFile(path, head, resume, force); };
  };
  CHECK(expect_error(Exit::input, open(other, Resume::automatic, false)) ==
        path +
            ": of another run: model: a in the file, b here; temperature: 0.5 in the file, 0 here; seed: "
            "nothing "
            "in the file, 1 here");
  CHECK(get_file(path) == whole);
  Json less = kHead;
  less.erase("model");
  CHECK_THAT(expect_error(Exit::input, open(less, Resume::must, false)),
             ContainsSubstring("model: a in the file, nothing here"));

  CHECK_THAT(expect_error(Exit::output, open(kHead, Resume::never, false)), ContainsSubstring("file exists"));
  SampleFile(path, kHead, Resume::never, true);
  CHECK(get_file(path) == kHead.dump() + "\n");
  CHECK_THAT(expect_error(Exit::input, [&] { SampleFile(dir / "none", kHead, Resume::must, false); }),
             ContainsSubstring("no file to resume from"));

  for (const std::string text : {"hello", "hello\n", "{\"schema\": 1}\n", "[1, 2]\n"}) {
    put_file(path, text);
    CHECK_THAT(expect_error(Exit::input, open(kHead, Resume::automatic, false)), ContainsSubstring(path));
    CHECK(get_file(path) == text);
  }
  put_file(path, kHead.dump() + "\n{}\n" + sample("exact", "1").dump() + "\n");
  CHECK_THAT(expect_error(Exit::input, open(kHead, Resume::automatic, false)),
             ContainsSubstring("a.jsonl:2: \"cache\" is missing"));
  CHECK_THAT(expect_error(Exit::output, [&] { SampleFile(dir / "none/a", kHead, Resume::automatic, false); }),
             ContainsSubstring("cannot write"));
}

TEST_CASE("sample file: a run that ends gives it to the next, which waits for it") {
  TempFolder dir;
  std::optional<SampleFile> first(std::in_place, dir / "a.jsonl", kHead, Resume::automatic, false);
  std::thread ends([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    first.reset();
  });
  CHECK_NOTHROW(SampleFile(dir / "a.jsonl", kHead, Resume::automatic, false));
  ends.join();
}

TEST_CASE("sample file: two runs do not write one") {
  TempFolder dir;
  SampleFile first(dir / "a.jsonl", kHead, Resume::automatic, false);
  CHECK_THAT(
      expect_error(Exit::output, [&] { SampleFile(dir / "a.jsonl", kHead, Resume::automatic, false); }),
      ContainsSubstring("locked"));
}

TEST_CASE("sample file: a pipe, a folder and a name that cannot be looked up are refused at once") {
  TempFolder dir;
  const auto refused = [&](const std::string& path) {
    return expect_error(Exit::output, [&] { SampleFile(path, kHead, Resume::never, true); });
  };
  REQUIRE(mkfifo((dir / "pipe").c_str(), 0600) == 0);
  CHECK_THAT(refused(dir / "pipe"), ContainsSubstring("it is a folder, device, pipe or socket"));
  CHECK_THAT(refused(dir.path()), ContainsSubstring("it is a folder, device, pipe or socket"));
  std::filesystem::create_symlink("loop", dir / "loop");
  CHECK_THAT(refused(dir / "loop"), ContainsSubstring("cannot write: Too many levels of symbolic links"));
}
