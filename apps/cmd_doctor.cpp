#include <fmt/format.h>
#include <sys/utsname.h>

#include <cmath>
#include <cstdlib>
#include <fstream>

#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "base/parallel.h"
#include "commands.h"
#include "device.h"
#include "quant/block_gtq.h"
#include "quant/codebook.h"
#include "quant/random.h"
#include "quant/rotation.h"

namespace blockgtq {
namespace {

std::string first_value(const char* file, const std::string& key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);)
    if (line.rfind(key, 0) == 0 && line.find(':') != std::string::npos) {
      const size_t start = line.find_first_not_of(" \t", line.find(':') + 1);
      return start == std::string::npos ? "" : line.substr(start);
    }
  return "unknown";
}

struct Check {
  std::string what;
  bool good;
};

/// Known answers that every published number rests on (numpy 1.24, default_rng).
std::vector<Check> known_answers() {
  Random random(42);
  const double normal = random.standard_normal();
  const std::vector<double> rotation = haar_rotation(2, 43);
  const double determinant = rotation[0] * rotation[3] - rotation[1] * rotation[2];
  std::vector<uint8_t> bits(64, 3);
  const BlockGtq quantizer({128, 128, Pairing::half}, bits);
  return {{"random stream: numpy default_rng(42)", normal == 0.30471707975443135},
          {"rotation: determinant 1", std::abs(determinant - 1) < 1e-12},
          {"codebook: 1 bit is sqrt(2/pi)", std::abs(normal_codebook(1)[1] - std::sqrt(2 / M_PI)) < 1e-15},
          {"bytes: 3 bits of 128 coordinates and a norm are 50", quantizer.code_bytes() == 50}};
}

}  // namespace

void add_doctor(CLI::App& app, const GlobalOptions&) {
  CLI::App* command = app.add_subcommand(
      "doctor", "What this build and this machine can do, and whether known answers come out");
  command->callback([] {
    utsname system{};
    uname(&system);
    const char* hub = std::getenv("HF_HUB_CACHE");
    const char* home = std::getenv("HF_HOME");
    std::string text;
    auto line = [&](const std::string& key, const std::string& value) {
      text += fmt::format("{:<12} {}\n", key, value);
    };
    line("blockgtq", BLOCKGTQ_VERSION);
    line("compiler", __VERSION__);
    line("system", fmt::format("{} {} {}", system.sysname, system.release, system.machine));
    line("processor", first_value("/proc/cpuinfo", "model name"));
    line("threads", std::to_string(threads()));
    line("memory", fmt::format("{:.1f} GiB", gib(physical_memory())));
    for (const std::string& text_line : describe_cuda()) line("cuda", text_line);
    line("model cache", hub ? hub : home ? std::string(home) + "/hub" : "~/.cache/huggingface/hub");
    bool good = true;
    for (const Check& check : known_answers()) {
      line(check.good ? "ok" : "WRONG", check.what);
      good = good && check.good;
    }
    write_stdout(text);
    if (!good) throw Error(Exit::defect, "a known answer did not come out");
  });
}

}  // namespace blockgtq
