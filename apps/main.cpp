#include <fmt/format.h>

#include <csignal>
#include <cstdio>
#include <exception>
#include <new>

#include "base/error.h"
#include "base/parallel.h"
#include "base/stop.h"
#include "commands.h"

namespace blockgtq {
namespace {

int report(Exit code, const std::string& what, const std::string& hint = "") {
  fmt::print(stderr, "error: {}\n", what);
  if (!hint.empty()) fmt::print(stderr, "hint: {}\n", hint);
  return int(code);
}

/// Help and version go to stdout with code 0; anything else about the command line is one line and code 2.
int report_parse(const CLI::App& app, const CLI::ParseError& e) {
  if (e.get_exit_code() == 0) return app.exit(e);
  std::string what = e.what();
  // An argument nobody knows says more than what is missing because of it.
  if (const std::vector<std::string> unknown = app.remaining(true); !unknown.empty())
    what = fmt::format("unknown {}: {}", unknown[0][0] == '-' ? "option" : "argument", unknown[0]);
  if (what.empty()) what = e.get_name();
  for (char& c : what)
    if (c == '\n') c = ' ';
  return report(Exit::usage, what, "blockgtq COMMAND --help lists the options");
}

int run(int argc, char** argv) {
  CLI::App app("RoPE-aware bit allocation for KV-cache quantization: calibrate, measure, export.",
               "blockgtq");
  app.set_version_flag("--version", "blockgtq " BLOCKGTQ_VERSION);
  app.require_subcommand(1);
  app.fallthrough();
  app.get_formatter()->column_width(36);
  GlobalOptions global;
  add_global_options(app, global);
  app.parse_complete_callback([&] { set_threads(global.threads); });
  for (auto* add :
       {add_inspect, add_tokenize, add_dump, add_energy, add_merge, add_allocate, add_calibrate, add_quantize,
        add_eval_logits, add_export_bitmap, add_panel, add_perplexity, add_niah, add_bench, add_doctor})
    add(app, global);
  add_environment_and_config(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return report_parse(app, e);
  }
  return int(Exit::ok);
}

}  // namespace
}  // namespace blockgtq

int main(int argc, char** argv) {
  using namespace blockgtq;
  install_stop_handlers();
  std::signal(SIGPIPE, SIG_IGN);  // a closed pipe and a file size limit are write errors with a message
  std::signal(SIGXFSZ, SIG_IGN);
  try {
    return run(argc, argv);
  } catch (const Error& e) {
    return report(e.code, e.what(), e.hint);
  } catch (const std::bad_alloc&) {
    return report(Exit::device, "out of memory", "fewer --tokens or a smaller --chunk need less");
  } catch (const std::exception& e) {
    return report(Exit::defect, fmt::format("a defect of blockgtq: {}", e.what()));
  }
}
