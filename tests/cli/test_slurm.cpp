// The run on a cluster, with stand-ins for Slurm's commands (tests/slurm/fake): what a folder holds is one
// run. tests/slurm/cases.sh has the same on a real Slurm.
#include "cli/command.h"

namespace blockgtq {
namespace {

/// A run of three parts and two evaluations, the folder it goes to, and what the stand-ins keep.
class Cluster {
  TempFolder dir_;

 public:
  std::string text = BLOCKGTQ_SOURCE_DIR "/data/texts/calibration.txt", tokens = "640", parts = "3", more;
  const std::string out = dir_ / "run", slurm = dir_ / "slurm", bin = dir_ / "bin";

  Cluster() {
    for (const std::string& folder : {slurm, bin}) std::filesystem::create_directory(folder);
    std::filesystem::create_symlink(BLOCKGTQ_BINARY, bin + "/blockgtq");
  }
  Outcome submit(std::vector<std::string> options = {}, std::vector<std::string> environment = {}) const {
    const std::string run_txt = dir_ / "run.txt";
    put_file(run_txt,
             "# comment\nmodel " + model("tiny-qwen2-hd64") + "\ncalibration  " + text + "\nevaluation " +
                 blockgtq::text("evaluation") + "\nparts " + parts + "\n\nenergy --tokens " + tokens +
                 " --chunk 64\nallocate --bits 2,3\nperplexity --tokens 256 --k-method tq-mse --pairs "
                 "K2\nperplexity --tokens 256 --k-method tq-mse --pairs K3\n" +
                 more);
    std::vector<std::string> args = {"submit", run_txt, out};
    args.insert(args.end(), options.begin(), options.end());
    return script(args, std::move(environment));
  }
  /// One task, as Slurm would start it.
  Outcome task(const std::string& stage, int id, std::vector<std::string> environment = {}) const {
    environment.insert(environment.end(), {"SLURM_JOB_ID=77", "SLURM_ARRAY_JOB_ID=77",
                                           "SLURM_ARRAY_TASK_ID=" + std::to_string(id)});
    return script({stage, out}, std::move(environment));
  }
  std::string part(int i) const { return out + "/parts/000" + std::to_string(i) + ".h5"; }
  std::string kept(const std::string& name) const { return get_file(slurm + "/" + name); }
  void remove(const std::vector<std::string>& names) const {
    for (const std::string& name : names) REQUIRE(std::filesystem::remove(out + "/" + name));
  }

 private:
  Outcome script(std::vector<std::string> args, std::vector<std::string> environment) const {
    args.insert(args.begin(), {"/bin/bash", BLOCKGTQ_SOURCE_DIR "/apps/slurm/run.sh"});
    const std::string path = BLOCKGTQ_SOURCE_DIR "/tests/slurm/fake:" + bin + ":" + std::getenv("PATH");
    environment.insert(environment.end(), {"FAKE_SLURM=" + slurm, "PATH=" + path});
    return run(std::move(args), environment);
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

TEST_CASE("slurm: a run gives the map of one calibrate, and a report of all its evaluations", "[slurm]") {
  const TempFolder dir;
  const Cluster cluster;
  const Outcome outcome = cluster.submit({"--gpu", "--partition=p"});
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  CHECK(same_bytes(cluster.out + "/map.h5", calibrated_map(dir)));
  const std::string report = get_file(cluster.out + "/report.csv"), jobs = cluster.kept("submitted");
  CHECK(std::count(report.begin(), report.end(), '\n') == 4);  // head, exact, K2, K3
  CHECK_THAT(get_file(cluster.out + "/report.md"), ContainsSubstring("| K3 | tq-mse | exact |"));
  for (const char* line : {"--partition=p --job-name=energy", "--gres=gpu:1 --array=1,2,3 ",
                           "--dependency=afterok:1 --kill-on-invalid-dep=yes --job-name=merge",
                           "--dependency=afterok:2 --kill-on-invalid-dep=yes --job-name=allocate",
                           "--dependency=afterok:3 --kill-on-invalid-dep=yes --job-name=perplexity",
                           "--dependency=afterok:4 --kill-on-invalid-dep=yes --job-name=report"})
    CHECK_THAT(jobs, ContainsSubstring(line));
  CHECK_THAT(cluster.submit().out, ContainsSubstring("complete"));
  CHECK(cluster.kept("submitted") == jobs);
}

TEST_CASE("slurm: the same command again makes what is missing", "[slurm]") {
  const Cluster cluster;
  put_file(cluster.slurm + "/code", "1");
  REQUIRE(cluster.submit().code == 0);  // all tasks fail, and what depends on them does not run
  CHECK_FALSE(std::filesystem::exists(cluster.out + "/stats.h5"));
  std::filesystem::remove(cluster.slurm + "/code");
  REQUIRE(cluster.submit().code == 0);
  const std::string map = get_file(cluster.out + "/map.h5"), second = get_file(cluster.part(2));

  cluster.remove({"stats.h5", "map.h5", "parts/0002.h5", "results/0001.csv", "report.csv"});
  std::filesystem::resize_file(cluster.part(1), 5000);  // damaged
  std::filesystem::remove(cluster.part(3));
  put_file(cluster.part(3), get_file(cluster.part(1)));  // not the third
  const auto evaluated = std::filesystem::last_write_time(cluster.out + "/results/0002.csv");
  CHECK_THAT(cluster.submit().out,
             ContainsSubstring("energy --array=1,2,3\n") && ContainsSubstring("perplexity --array=1\n"));
  CHECK((get_file(cluster.out + "/map.h5") == map));
  CHECK((get_file(cluster.part(2)) == second));
  CHECK(std::filesystem::last_write_time(cluster.out + "/results/0002.csv") == evaluated);

  cluster.remove({"stats.h5", "map.h5", "parts/0002.h5"});
  const auto first = std::filesystem::last_write_time(cluster.part(1));
  CHECK_THAT(cluster.submit().out, ContainsSubstring("energy --array=2\n"));
  CHECK(std::filesystem::last_write_time(cluster.part(1)) == first);
  CHECK((get_file(cluster.out + "/map.h5") == map));

  // Nothing comes of a merge whose parts are not all there.
  cluster.remove({"stats.h5", "map.h5", "parts/0002.h5"});
  check_refused(cluster.task("merge", 1), 3, "0002.h5");
  CHECK_FALSE(std::filesystem::exists(cluster.out + "/stats.h5"));
}

TEST_CASE("slurm: a folder keeps to one run", "[slurm]") {
  const TempFolder dir;
  Cluster cluster;
  cluster.text = dir / "text";
  put_file(cluster.text, get_file(text("calibration")));
  REQUIRE(cluster.submit().code == 0);
  put_file(cluster.slurm + "/queue", "9\n3\n");
  check_refused(cluster.submit(), 3, "queued or running: wait, or scancel 3");
  std::filesystem::remove(cluster.slurm + "/queue");

  cluster.tokens = "512";
  check_refused(cluster.submit(), 3, "differs in: energy --tokens 640");
  cluster.tokens = "640";
  cluster.parts = "4";
  check_refused(cluster.submit(), 3, "differs in: parts 3");
  cluster.parts = "0";
  check_refused(cluster.submit(), 2, "parts: '0' found");
  cluster.parts = "3";
  cluster.more = "seed 3\n";
  check_refused(cluster.submit(), 2, "'seed' found");
  cluster.more = "model /no/such\n";
  check_refused(cluster.submit(), 3, "/no/such: no such folder");
  cluster.more = "parts 3\n";
  check_refused(cluster.submit(), 2, "2 lines of 'parts' found, 1 allowed");
  cluster.more = "";
  check_refused(cluster.submit({}, {"BLOCKGTQ_CHUNK=32"}), 2, "BLOCKGTQ_CHUNK: set in the environment");

  // What a task reads is what the run began with.
  put_file(cluster.text, "another text");
  cluster.remove({"parts/0001.h5"});
  check_refused(cluster.task("energy", 1), 3,
                "job 77_1: " + cluster.out + " holds another run, which differs in: calibration");
  CHECK_FALSE(std::filesystem::exists(cluster.part(1)));
  check_refused(cluster.submit(), 3, "differs in: calibration sha256");
  cluster.text = "/no/such/text";
  check_refused(cluster.submit(), 3, "/no/such/text: cannot be read");
  CHECK(cluster.submit().code == 3);
}

TEST_CASE("slurm: a task that a signal stopped requeues itself, and no other", "[slurm]") {
  const Cluster cluster;
  REQUIRE(cluster.submit().code == 0);
  cluster.remove({"parts/0003.h5"});
  put_file(cluster.slurm + "/code", "75");
  put_file(cluster.slurm + "/queue", "RUNNING\n");
  CHECK(cluster.task("energy", 3).code == 75);
  CHECK(cluster.kept("controlled") == "scontrol requeue 77_3\n");
  check_refused(cluster.task("energy", 3, {"SLURM_RESTART_COUNT=5"}), 75, "stopped after 5 restarts");
  put_file(cluster.slurm + "/queue", "COMPLETING\n");  // cancelled: Slurm has the last word
  CHECK(cluster.task("energy", 3).code == 75);
  put_file(cluster.slurm + "/code", "6");
  CHECK(cluster.task("energy", 3).code == 6);
  CHECK(cluster.kept("controlled") == "scontrol requeue 77_3\n");
}

TEST_CASE("slurm: where one job is refused, none stays queued", "[slurm]") {
  const Cluster cluster;
  put_file(cluster.slurm + "/refuse", "");
  check_refused(cluster.submit(), 3, "energy: sbatch refuses it");
  CHECK_FALSE(std::filesystem::exists(cluster.slurm + "/controlled"));
}

}  // namespace blockgtq
