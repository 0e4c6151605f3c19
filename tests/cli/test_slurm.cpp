// The batch scripts under a made-up Slurm environment: what a folder holds is one run, whatever is submitted.
#include "cli/command.h"

namespace blockgtq {
namespace {

/// One folder of parts, and what sbatch would run there.
class Cluster {
  TempFolder folder_;

 public:
  const std::string out = folder_ / "parts";
  std::string tokens = "640", corpus = text("calibration");
  std::vector<std::string> parts;  // the fourth argument, or none

  /// Task `id` of an array of `count` tasks that begins at `least`.
  Outcome task(int id, int count, int least) const {
    std::vector<std::string> args = script("energy");
    args.insert(args.end(), {model("tiny-qwen2-hd64"), corpus, out});
    args.insert(args.end(), parts.begin(), parts.end());
    return run(args, {path(), "TOKENS=" + tokens, "BLOCKGTQ_CHUNK=64", "SLURM_ARRAY_JOB_ID=77",
                      "SLURM_CPUS_PER_TASK=2", "SLURM_ARRAY_TASK_ID=" + std::to_string(id),
                      "SLURM_ARRAY_TASK_COUNT=" + std::to_string(count),
                      "SLURM_ARRAY_TASK_MIN=" + std::to_string(least)});
  }
  Outcome merge() const {
    std::vector<std::string> args = script("merge");
    args.insert(args.end(), {out, "2,3"});
    return run(args, {path()});
  }
  void array(int first, int last) const {
    for (int id = first; id <= last; ++id) {
      const Outcome outcome = task(id, last - first + 1, first);
      INFO(outcome.err);
      REQUIRE(outcome.code == 0);
    }
  }
  std::string part(int i) const { return out + "/part-000" + std::to_string(i) + ".h5"; }
  std::string map() const { return out + "/map.h5"; }

 private:
  static std::vector<std::string> script(const std::string& name) {
    return {"/bin/bash", BLOCKGTQ_SOURCE_DIR "/apps/slurm/" + name + ".sbatch"};
  }
  static std::string path() {
    return "PATH=" + std::filesystem::path(BLOCKGTQ_BINARY).parent_path().string() + ":" +
           std::getenv("PATH");
  }
};

void check_refused(const Outcome& outcome, int code, const std::string& says) {
  CHECK(outcome.code == code);
  CHECK(error_lines(outcome) == 1);
  CHECK_THAT(outcome.err, ContainsSubstring(says));
}

std::string calibrated_map(const TempFolder& dir) {
  const std::string map = dir / "map.h5";
  good({"calibrate", "-m", model("tiny-qwen2-hd64"), "-f", text("calibration"), "--tokens", "640", "--chunk",
        "64", "--bits", "2,3", "-q", "-o", map});
  return map;
}

}  // namespace

TEST_CASE("slurm: arrays from 0 and from 1 give the map of one run", "[slurm]") {
  const TempFolder dir;
  const std::string map = calibrated_map(dir);
  for (const int first : {0, 1}) {
    CAPTURE(first);
    const Cluster cluster;
    cluster.array(first, first + 2);
    REQUIRE(cluster.merge().code == 0);
    CHECK(same_bytes(cluster.map(), map));
    CHECK_FALSE(std::filesystem::exists(cluster.part(4)));
  }
}

TEST_CASE("slurm: a task that is submitted again computes its own range", "[slurm]") {
  const TempFolder dir;
  const Cluster cluster;
  for (const int id : {0, 2}) REQUIRE(cluster.task(id, 3, 0).code == 0);
  check_refused(cluster.merge(), 3, "--array=1");
  const std::string first = get_file(cluster.part(1)), third = get_file(cluster.part(3));
  REQUIRE(cluster.task(1, 1, 1).code == 0);  // --array=1: an array of one task now
  REQUIRE(cluster.merge().code == 0);
  CHECK(same_bytes(cluster.map(), calibrated_map(dir)));

  // What is there and whole is left alone; what is damaged, or another part under its name, is made again.
  const auto before = std::filesystem::last_write_time(cluster.part(1));
  REQUIRE(cluster.task(0, 3, 0).code == 0);
  CHECK(std::filesystem::last_write_time(cluster.part(1)) == before);
  std::filesystem::resize_file(cluster.part(1), 5000);
  CHECK_THAT(cluster.task(0, 1, 0).err, ContainsSubstring("part-0001.h5: not part 1 of 3"));
  CHECK((get_file(cluster.part(1)) == first));
  std::filesystem::copy_file(cluster.part(1), cluster.part(3),
                             std::filesystem::copy_options::overwrite_existing);
  CHECK_THAT(cluster.task(2, 1, 2).err, ContainsSubstring("part-0003.h5: not part 3 of 3"));
  CHECK((get_file(cluster.part(3)) == third));
}

TEST_CASE("slurm: a folder keeps to one model, text and number of parts", "[slurm]") {
  Cluster cluster;
  cluster.parts = {"3"};
  REQUIRE(cluster.task(1, 1, 1).code == 0);  // PARTS says 3, though the array has one task yet
  check_refused(cluster.task(4, 4, 1), 2, "77_4: task 4 found, 1 to 3 allowed");
  check_refused(cluster.task(0, 1, 0), 2, "task 0 found, 1 to 3 allowed");
  cluster.parts = {"4"};
  check_refused(cluster.task(2, 4, 1), 3, "PARTS: 4 found");
  cluster.parts = {};
  cluster.tokens = "512";
  check_refused(cluster.task(2, 3, 1), 3, "differs in: tokens 640");
  cluster.tokens = "640";
  cluster.corpus = text("evaluation");
  check_refused(cluster.task(2, 3, 1), 3, "differs in: text");
  cluster.corpus = "/no/such/text";
  check_refused(cluster.task(2, 3, 1), 3, "/no/such/text: cannot be read");
  CHECK_FALSE(std::filesystem::exists(cluster.part(2)));
  check_refused(cluster.merge(), 3, "--array=2,3");
  check_refused(run({"/bin/bash", BLOCKGTQ_SOURCE_DIR "/apps/slurm/energy.sbatch", "m", "t", cluster.out},
                    {"SLURM_ARRAY_TASK_ID="}),
                2, "no task of an array");
}

}  // namespace blockgtq
