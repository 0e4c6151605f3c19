// What killed runs leave behind. Both readers go on with the file, so each input is a new one.
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/resume_file.h"
#include "base/sha256.h"
#include "reader.h"
#include "tasks/sample_file.h"

namespace blockgtq {

/// The digest is put behind: a file that was written by someone who knows it.
void fuzz_resume(std::string_view input) {
  scratch_file("out.resume", std::string(input) + sha256_hex(input));
  Progress silent;
  ResumeFile file(scratch_folder() / "out", Resume::must, 60, silent);
  for (const char* stage : {"first", "second"}) {
    file.begin(stage, [] { return Json{{"bits", 3}}; });
    if (!file.state()) continue;
    check(file.state()->is_object(), "a state that is no object");
    check(file.array<float>("x", 2).size() == 2, "an array of another size");
  }
}

void fuzz_samples(std::string_view input) {
  const fs::path path = scratch_file("samples.jsonl", input);
  SampleFile file(path, Json{{"schema", "s"}, {"n", 1}}, Resume::automatic, false);
  if (!file.find("exact", "1")) file.add(Json{{"cache", "exact"}, {"id", "1"}});
  check(file.find("exact", "1") != nullptr, "an answer is lost");
}

}  // namespace blockgtq
