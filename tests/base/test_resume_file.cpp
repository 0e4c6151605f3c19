#include "base/resume_file.h"

#include "catch.h"
#include "expect_error.h"
#include "temp_folder.h"

using namespace blockgtq;

namespace {

const Json kSignature = {{"text", "abc"}, {"bits", 3}};

struct Warnings : Progress {
  void warn(const std::string& text) override { texts.push_back(text); }
  std::vector<std::string> texts;
};

struct Kept {
  TempFolder dir;
  Warnings warnings;
  std::string path = dir / "out.resume";

  std::unique_ptr<ResumeFile> open(Resume mode = Resume::automatic, const Json& signature = kSignature,
                                   double seconds = 0) {
    auto file = std::make_unique<ResumeFile>(dir / "out", mode, seconds, warnings);
    file->begin("first", [=] { return signature; });
    return file;
  }
  void save() {
    open()->save({{"layer", 7}}, {{"x", std::vector<double>{1, -0.0, 1e300}}, {"none", kNothing}});
  }
  const std::vector<float> kNothing;
};

}  // namespace

TEST_CASE("a state reads back bit for bit, and is there until the output is") {
  Kept kept;
  CHECK(!kept.open()->state());
  CHECK(kept.dir.entries() == 0);
  const std::vector<double> x = {1, -0.0, 1e300, 5e-324};
  {
    const auto file = kept.open();
    file->save({{"layer", 3}}, {{"x", x}});
    file->save({{"layer", 7}}, {{"x", x}, {"none", std::vector<float>()}});
  }
  CHECK(kept.dir.entries() == 1);
  const auto opened = kept.open(Resume::must);
  ResumeFile& file = *opened;
  REQUIRE(file.state());
  CHECK(file.state()->at("layer") == 7);
  const std::vector<double> again = file.array<double>("x", 4);
  CHECK(std::memcmp(again.data(), x.data(), sizeof(double) * 4) == 0);
  CHECK(file.array<float>("none", 0).empty());
  CHECK_THAT(expect_error(Exit::input, [&] { file.array<double>("x", 3); }),
             ContainsSubstring("x: 32 bytes, expected 24"));
  CHECK_THAT(expect_error(Exit::input, [&] { file.array<double>("y", 3); }), ContainsSubstring("y: missing"));
  file.remove();
  CHECK(kept.dir.entries() == 0);
}

TEST_CASE("a stage that has ended is there beside the one that goes on") {
  Kept kept;
  const std::vector<float> one = {1, 2}, two = {3, 4, 5};
  {
    const auto file = kept.open();
    file->end({{"ended", true}}, {{"x", one}});
    CHECK(kept.dir.entries() == 1);  // what it writes to
    file->begin("second", [] { return kSignature; });
    file->save({{"at", 1}}, {{"x", two}});
  }
  auto file = kept.open(Resume::must);
  CHECK(file->state()->at("ended") == true);
  CHECK(file->array<float>("x", 2) == one);
  CHECK(expect_error(Exit::input, [&] { file->begin("third", [] { return kSignature; }); }) ==
        kept.path + ": of another run: stage: second in the file, third here");
  file.reset();
  const auto again = kept.open(Resume::must);
  again->begin("second", [] { return kSignature; });
  CHECK(again->state()->at("at") == 1);
  CHECK(again->array<float>("x", 3) == two);
  again->begin("third", [] { return kSignature; });
  CHECK(!again->state());
}

TEST_CASE("another signature is refused field by field, unless the file is to be ignored") {
  Kept kept;
  kept.save();
  const Json other = {{"text", "abd"}, {"bits", 3}, {"seed", 1}};
  for (const Resume mode : {Resume::automatic, Resume::must})
    CHECK(expect_error(Exit::input, [&] { kept.open(mode, other); }) ==
          kept.path + ": of another run: text: abc in the file, abd here; seed: nothing in the file, 1 here");
  CHECK(!kept.open(Resume::never, other)->state());
  CHECK(kept.open()->state());  // and nothing was done to it
}

TEST_CASE("a file that is not as it was written is a warning, or refused where it must be there") {
  Kept kept;
  kept.save();
  const std::string whole = get_file(kept.path);
  std::vector<std::string> damaged = {"", "x", whole.substr(0, whole.size() - 1), whole + "x"};
  for (size_t i = 0; i < whole.size(); i += 7) {
    damaged.push_back(whole);
    damaged.back()[i] ^= 1;
  }
  for (const std::string& bytes : damaged) {
    put_file(kept.path, bytes);
    kept.warnings.texts.clear();
    CHECK(!kept.open()->state());
    CHECK(kept.warnings.texts.size() == 1);
    CHECK_THAT(expect_error(Exit::input, [&] { kept.open(Resume::must); }), ContainsSubstring(kept.path));
  }
  std::filesystem::remove(kept.path);
  CHECK(expect_error(Exit::input, [&] { kept.open(Resume::must); }) ==
        kept.path + ": no file to resume from");
}

TEST_CASE("a save waits for its time, and one that fails ends the saving, not the run") {
  Kept kept;
  CHECK(kept.open()->due());
  CHECK(!kept.open(Resume::automatic, kSignature, 1000)->due());
  const auto opened = kept.open();
  ResumeFile& file = *opened;
  for (const auto& entry : std::filesystem::directory_iterator(kept.dir.path()))
    std::filesystem::remove(entry.path());  // what it writes to
  file.save({{"layer", 1}}, {});
  CHECK(kept.warnings.texts.size() == 1);
  CHECK(!file.due());
  CHECK(kept.dir.entries() == 0);
}
