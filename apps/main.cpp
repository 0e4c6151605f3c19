#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <new>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/descriptors.h"
#include "base/error.h"
#include "base/file.h"
#include "base/parallel.h"
#include "base/printable.h"
#include "base/stop.h"
#include "build_info.h"
#include "command_help.h"
#include "commands.h"
#include "config_file.h"
#include "decimal.h"
#include "option_table.h"

namespace blockgtq {
namespace {

int report(Exit code, const std::string& what, const std::string& hint = "") {
  std::string text = "error: " + printable(what) + "\n";
  if (!hint.empty()) text += "hint: " + printable(hint) + "\n";
  write_stderr(text);
  return int(code);
}

/// Asks for none itself.
int report_no_memory() noexcept {
  constexpr std::string_view text =
      "error: out of memory\nhint: fewer --tokens or a smaller --chunk need less\n";
  [[maybe_unused]] const ssize_t ignored = ::write(STDERR_FILENO, text.data(), text.size());
  return int(Exit::device);
}

std::atomic<bool> memory_ran_out{false};
std::terminate_handler former_terminate;

[[noreturn]] void on_no_memory() {
  memory_ran_out = true;
  throw std::bad_alloc();
}

/// Memory may also run out where nothing can be thrown: in a destructor (nlohmann-json has one that asks for
/// some), in a noexcept function of libstdc++, which then ends the program without an exception to look at.
[[noreturn]] void on_terminate() {
  bool no_memory = memory_ran_out;
  try {
    if (std::current_exception()) throw;
  } catch (const std::bad_alloc&) {
    no_memory = true;
  } catch (...) {
    no_memory = false;
  }
  if (no_memory) {
    remove_temporaries();
    _exit(report_no_memory());
  }
  former_terminate();
  std::abort();
}

const pid_t own_process = getpid();
bool main_has_ended = false;

/// Some libraries call exit() where they get no memory (libhdf5) or no threads (libgomp): no result of ours.
void on_exit_by_others() {
  if (main_has_ended) return;
  if (getpid() != own_process) _exit(1);  // a child's outputs are its parent's
  remove_temporaries();
  constexpr std::string_view text = "error: out of memory or of threads: a library ended the program\n";
  [[maybe_unused]] const ssize_t ignored = ::write(STDERR_FILENO, text.data(), text.size());
  _exit(int(Exit::device));
}

/// Help and version go to stdout with code 0; anything else about the command line is one line and code 2.
int report_parse(const CLI::App& app, const ConfigFile& config, const CLI::ParseError& e) {
  std::string what = e.what();
  // An argument nobody knows says more than what is missing because of it, and than help for something else.
  if (const std::vector<std::string> unknown = app.remaining(true); !unknown.empty()) {
    what = fmt::format("unknown {}: {}", unknown[0].starts_with('-') ? "option" : "argument", unknown[0]);
  } else if (e.get_exit_code() == 0) {
    std::ostringstream text;
    app.exit(e, text, text);
    write_stdout(text.str());
    return int(Exit::ok);
  }
  if (what.empty()) what = e.get_name();
  if (const std::string origin = config.origin(what.substr(0, what.find(':'))); !origin.empty())
    what = origin + ": " + what;
  std::replace(what.begin(), what.end(), '\n', ' ');
  return report(Exit::usage, what, "blockgtq COMMAND --help lists the options");
}

/// --version, and with --json what the binary was built of.
void add_version(CLI::App& app) {
  const auto text = [&app] {
    if (app.count("--json") == 0) return std::string("blockgtq " BLOCKGTQ_VERSION);
    std::string text = dump_json(build_info());
    text.pop_back();  // CLI11 writes a newline behind it
    return text;
  };
  CLI::Option* version = app.set_version_flag("--version", text, "The version");
  CLI::Option* json = app.add_flag("--json")->needs(version)->configurable(false);
  json->description("With --version: commit, compiler and libraries, as JSON");
}

int run(int argc, char** argv) {
  CLI::App app("RoPE-aware bit allocation for KV-cache quantization: calibrate, measure, export.",
               "blockgtq");
  app.formatter(std::make_shared<HelpFormatter>());
  add_version(app);
  app.require_subcommand(1);
  app.fallthrough();
  GlobalOptions global;
  add_global_options(app, global);
  app.parse_complete_callback([&] {
    require_environment(app);
    refuse_standard_streams(app);
    set_threads(global.threads);
  });
  for (auto* add :
       {add_inspect,   add_tokenize,  add_dump,        add_energy,        add_merge,   add_allocate,
        add_calibrate, add_quantize,  add_eval_logits, add_export_bitmap, add_panel,   add_perplexity,
        add_niah,      add_longbench, add_aime,        add_generate,      add_compare, add_correlate,
        add_bench,     add_plan,      add_doctor,      add_completion,    add_manual})
    add(app, global);
  require_decimal_numbers(app);
  const ConfigFile& config = add_environment_and_config(app);
  name_groups(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return report_parse(app, config, e);
  }
  return int(Exit::ok);
}

int run_and_report(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const Error& e) {
    return report(e.code, e.what(), e.hint);
  } catch (const std::bad_alloc&) {
    return report_no_memory();
  } catch (const fs::filesystem_error& e) {
    return report(Exit::input,
                  fmt::format("{}: cannot be looked up: {}", e.path1().string(), e.code().message()));
  } catch (const std::exception& e) {
    return report(Exit::defect, fmt::format("a defect of blockgtq: {}", e.what()));
  }
}

}  // namespace
}  // namespace blockgtq

int main(int argc, char** argv) {
  using namespace blockgtq;
  use_sleeping_threads(argv);
  reserve_standard_descriptors();
  install_stop_handlers();
  std::atexit(on_exit_by_others);
  std::set_new_handler(on_no_memory);
  former_terminate = std::set_terminate(on_terminate);
  std::signal(SIGPIPE, SIG_IGN);  // a closed pipe and a file size limit are write errors with a message
  std::signal(SIGXFSZ, SIG_IGN);
  const int code = run_and_report(argc, argv);
  main_has_ended = true;
  return code;
}
