#include "options.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/page.h"
#include "base/printable.h"
#include "decimal.h"
#include "quant/codebook.h"
#include "quant/methods.h"

namespace blockgtq {
namespace {

Error usage(const std::string& what) {
  return Error(Exit::usage, what);
}

}  // namespace

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts(1);
  for (char c : text)
    if (c == separator)
      parts.emplace_back();
    else
      parts.back() += c;
  return parts;
}

std::unique_ptr<Progress> GlobalOptions::make_progress() const {
  static const std::pair<const char*, ProgressStyle> styles[] = {{"auto", ProgressStyle::automatic},
                                                                 {"bar", ProgressStyle::bar},
                                                                 {"plain", ProgressStyle::plain},
                                                                 {"json", ProgressStyle::json},
                                                                 {"none", ProgressStyle::none}};
  for (const auto& [name, style] : styles)
    if (progress == name) return blockgtq::make_progress(style, quiet);
  throw std::logic_error("make_progress: unchecked style");
}

bool GlobalOptions::use_color() const {
  if (color != "auto") return color == "always";
  const char *no_color = std::getenv("NO_COLOR"), *term = std::getenv("TERM");
  return isatty(STDOUT_FILENO) && !(no_color && *no_color) && !(term && std::string(term) == "dumb");
}

CorpusSpec RunOptions::corpus() const {
  if (files.empty() == ids.empty())
    throw usage(files.empty() ? "a text is missing: give -f TEXT or --ids FILE"
                              : "-f and --ids exclude each other");
  CorpusSpec spec;
  spec.files.assign(files.begin(), files.end());
  spec.ids = ids;
  spec.n_tokens = tokens;
  spec.skip_tokens = skip;
  spec.bos = bos;
  spec.window = chunk;
  return spec;
}

void GlobalOptions::say(const std::string& text) const {
  if (!quiet) write_stderr(printable(text) + "\n");
}

void GlobalOptions::note(const std::string& text) const {
  if (verbose) write_stderr(printable(text) + "\n");
}

void add_global_options(CLI::App& app, GlobalOptions& global) {
  app.add_option("-t,--threads", global.threads, "Threads; 0: as many as this process may use")
      ->check(in_range(0, 1024))
      ->capture_default_str();
  app.add_option("--progress", global.progress, "Progress on stderr")
      ->check(CLI::IsMember({"auto", "bar", "plain", "json", "none"}))
      ->capture_default_str();
  app.add_option("--color", global.color, "Colours on stdout")
      ->check(CLI::IsMember({"auto", "always", "never"}))
      ->capture_default_str();
  app.add_flag("-q,--quiet", global.quiet, "Only warnings and errors on stderr");
  app.add_flag("-v,--verbose", global.verbose, "Say more on stderr");
}

void add_device_options(CLI::App& command, RunOptions& run) {
  command.add_option("--device", run.device, "auto, cpu, cuda or cuda:N")->capture_default_str();
  command
      .add_option("--dtype", run.dtype,
                  "Arithmetic of the forward pass. On the CPU auto is fp32, with the same bits on every "
                  "processor; bf16x3 has the same accuracy and takes AMX")
      ->check(CLI::IsMember({"auto", "fp32", "bf16x3", "bf16", "fp16"}))
      ->capture_default_str();
  command.add_option("--gpu-memory", run.gpu_memory,
                     "Device memory to take at most, as 8GiB; default: all that is free");
}

void add_run_options(CLI::App& command, RunOptions& run, bool model_required) {
  CLI::Option* model = command.add_option("-m,--model", run.model,
                                          "Model folder (config.json, *.safetensors, tokenizer.json), "
                                          "GGUF file, or org/name in the local Hugging Face cache");
  if (model_required) model->required();
  command.add_option("-f,--file", run.files, "UTF-8 text; may be repeated")->allow_extra_args(false);
  command.add_option("--ids", run.ids, "Token ids instead of text");
  command.add_flag(
      "--bos,!--no-bos", run.bos,
      "Begin every window (niah: every question) with the model's bos token: before the text, and "
      "in place of the first token of the other windows, as llama.cpp does (default: no)");
  command.add_option("--tokens", run.tokens, "Tokens to use; 0: all")
      ->check(in_range(int64_t(0), int64_t(1) << 40))
      ->capture_default_str();
  command.add_option("--chunk", run.chunk, "Tokens per window, each from position 0; 0: one window")
      ->check(in_range(int64_t(0), int64_t(1) << 30))
      ->capture_default_str();
  add_device_options(command, run);
  command.add_option("--compat", run.compat, "reference: pair and scale as the published code does")
      ->check(CLI::IsMember({"reference"}));
}

void add_calibrate_from(CLI::App& command, int64_t& position) {
  command
      .add_option("--calibrate-from", position,
                  "Calibrate from this position of every window on: leave out the first, which a cache with "
                  "--sink holds exactly; a last window without more is left out")
      ->check(in_range(int64_t(0), int64_t(1) << 30))
      ->capture_default_str();
}

void add_html_option(CLI::App& command, std::string& html) {
  command.add_option("--html", html,
                     "The result as a page, one file that needs nothing else: tables that sort, charts, the "
                     "numbers; - for standard output");
}

void add_output_option(CLI::App& command, OutputOptions& output, const std::string& what) {
  command.add_option("-o,--output", output.path, what)->required();
  command.add_flag("--force", output.force, "Replace an existing output");
}

void add_codebook_option(CLI::App& command, std::string& codebook) {
  command
      .add_option(
          "--codebook", codebook,
          "Centroids: reference (as published) or exact (converged, for the group's dimension); default: "
          "reference for the published methods, exact for those that are new here")
      ->check(CLI::IsMember({"reference", "exact"}));
}

void add_exact_options(CLI::App& command, ExactWindow& exact, const std::string& of) {
  auto add = [&](const char* option, int64_t& n, const char* what) {
    command.add_option(option, n, (of.empty() ? "" : of + ": ") + what)
        ->check(in_range(int64_t(0), int64_t(1) << 30))
        ->capture_default_str();
  };
  add("--sink", exact.sink,
      "Positions at the start of every window that are held exactly, as a server holds them in 16 bits "
      "(attention sinks); counted in the bytes");
  add("--recent", exact.recent,
      "Positions that every query sees exactly, its own and those right before it, as a server holds the "
      "latest in 16 bits; counted in the bytes");
}

void require_whole_pages(const ExactWindow& exact) {
  if (exact.sink % kPagePositions != 0)
    throw Error(Exit::usage, fmt::format("--sink: {}: whole pages of {} positions are expected", exact.sink,
                                         kPagePositions));
}

std::vector<double> parse_bits(const std::string& text, const char* option) {
  std::vector<double> bits;
  for (const std::string& part : split(text, ',')) {
    const std::optional<double> value = parse_decimal(part);
    if (!value || !(*value >= 1 && *value <= kMaxBits))
      throw usage(fmt::format("{}: '{}' is not an average of 1 to {} bits (3, or 2,3,4, or 2.5)", option,
                              part, kMaxBits));
    bits.push_back(*value);
  }
  std::sort(bits.begin(), bits.end());
  bits.erase(std::unique(bits.begin(), bits.end()), bits.end());
  return bits;
}

std::vector<std::string> parse_methods(const std::string& text, const std::vector<Method>& known,
                                       const char* option) {
  std::vector<std::string> methods;
  for (const std::string& name : split(text, ',')) {
    if (!find_method(known, name))
      throw usage(fmt::format("{}: '{}' is unknown: {}", option, name, method_list(known)));
    if (std::find(methods.begin(), methods.end(), name) == methods.end()) methods.push_back(name);
  }
  return methods;
}

std::vector<std::string> parse_methods(const std::string& text) {
  return parse_methods(text, key_methods(), "--methods");
}

int64_t parse_bytes(const std::string& text, const char* option) {
  static constexpr std::pair<const char*, double> kUnits[] = {
      {"", 1},     {"B", 1},    {"M", 1e6},   {"MB", 1e6},        {"G", 1e9},
      {"GB", 1e9}, {"T", 1e12}, {"TB", 1e12}, {"MiB", 1048576.0}, {"GiB", 1073741824.0}};
  for (const auto& [unit, factor] : kUnits) {
    if (!text.ends_with(unit)) continue;
    const std::string_view number(text.data(), text.size() - std::string_view(unit).size());
    const std::optional<double> value = parse_decimal(number);
    if (value && *value > 0 && *value * factor < 1e15) return int64_t(*value * factor);
  }
  throw usage(fmt::format("{}: '{}' is not a size: 8GiB, 8000MB, 80G (of 10^9)", option, text));
}

std::vector<Metric> parse_metrics(const std::string& text) {
  const std::vector<Metric>& all = all_metrics();
  std::vector<bool> asked(all.size());
  for (const std::string& part : split(text, ',')) {
    const auto found = std::find_if(all.begin(), all.end(), [&](Metric m) { return part == name(m); });
    if (found == all.end() && part != "all") {
      std::vector<std::string> names;
      for (Metric m : all) names.push_back(name(m));
      throw usage(fmt::format("--metrics: '{}' is unknown: {}, all", part, fmt::join(names, ", ")));
    }
    for (size_t i = 0; i < all.size(); ++i)
      if (part == "all" || all[i] == *found) asked[i] = true;
  }
  std::vector<Metric> metrics;
  if (std::find(asked.begin() + 1, asked.end(), true) == asked.end()) return metrics;
  asked[0] = true;
  for (size_t i = 0; i < all.size(); ++i)
    if (asked[i]) metrics.push_back(all[i]);
  return metrics;
}

int terminal_width() {
  winsize window{};
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0 ? window.ws_col : 0;
}

void write_stderr(const std::string& text) noexcept {
  std::fwrite(text.data(), 1, text.size(), stderr);
}

void write_stdout(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    fail_output("standard output: cannot write: {}", std::strerror(errno));
}

}  // namespace blockgtq
