// export-bitmap --fold as a user runs it.
#include <nlohmann/json.hpp>

#include "cli/command.h"

namespace blockgtq {
namespace {

std::vector<std::string> on_model(std::vector<std::string> args, const std::string& folder) {
  for (const std::string& a : {std::string("-m"), folder, std::string("-f"), text("calibration"),
                               std::string("--tokens"), std::string("256"), std::string("-q")})
    args.push_back(a);
  return args;
}

}  // namespace

TEST_CASE("a folded model is a model, and folds no second time by the same map") {
  TempFolder dir;
  const std::string map = dir / "m.h5", folded = dir / "folded", again = dir / "again.h5";
  good(on_model({"calibrate", "-o", map}, model("tiny-qwen2")));
  const Outcome outcome = good({"export-bitmap", map, "--fold", model("tiny-qwen2"), "-o", folded});
  CHECK_THAT(outcome.err, ContainsSubstring("basis of values"));
  good(on_model({"calibrate", "-o", again}, folded));

  const auto fails = [&](const std::vector<std::string>& args, int code, const std::string& what) {
    std::vector<std::string> all = {"export-bitmap", map, "-q"};
    all.insert(all.end(), args.begin(), args.end());
    const Outcome bad = blockgtq(all);
    INFO(bad.err);
    CHECK(bad.code == code);
    CHECK(error_lines(bad) == 1);
    CHECK_THAT(bad.err, ContainsSubstring(what));
  };
  const std::string other = dir / "other";
  fails({"--fold", model("tiny-qwen2"), "-o", folded}, 4, "folder exists");
  fails({"--fold", model("tiny-qwen2"), "-o", model("tiny-qwen2"), "--force"}, 4, "own folder");
  fails({"--fold", model("tiny-qwen2"), "-o", dir / "no" / "such"}, 4, "cannot make the folder");
  fails({"--fold", folded, "-o", other}, 3, "fingerprint");
  fails({"--fold", model("tiny-llama"), "-o", other}, 3, "not of this model");
  fails({"--fold", model("tiny-qwen3"), "-o", other}, 3, "QK-norm");
  fails({"--fold", model("tiny-qwen2"), "-o", "-"}, 2, "folder");
  CHECK_FALSE(std::filesystem::exists(other));
  good({"export-bitmap", map, "--fold", model("tiny-qwen2"), "-o", folded, "--force", "-q"});
  CHECK(dir.entries() == 3);  // no temporary file stays
}

}  // namespace blockgtq
