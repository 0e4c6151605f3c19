#pragma once
#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "base/progress.h"
#include "eval/metrics.h"
#include "hf/corpus.h"
#include "quant/exact_window.h"
#include "quant/methods.h"

namespace blockgtq {

/// Options that every command takes, registered on the application itself.
struct GlobalOptions {
  int threads = 0;
  std::string progress = "auto", color = "auto";
  bool quiet = false;
  int verbose = 0;

  std::unique_ptr<Progress> make_progress() const;
  bool use_color() const;                    // of stdout; NO_COLOR and TERM=dumb honoured
  void say(const std::string& text) const;   // to stderr, without -q
  void note(const std::string& text) const;  // to stderr, with -v
};

/// -m, -f, --ids, --bos, --tokens, --chunk, --device, --dtype, --compat: what a forward pass needs.
struct RunOptions {
  std::string model;
  std::vector<std::string> files;
  std::string ids;
  bool bos = false;
  int64_t tokens = 2048, chunk = 256;
  int64_t skip = 0;            // tokens left out first; no option of its own
  int64_t calibrate_from = 0;  // --calibrate-from, where this calibrates
  std::string part;            // "I/N": the I-th of N equal ranges of chunks
  std::string device = "auto", dtype = "auto", gpu_memory, compat;
  std::string without_kernel;  // what of the run no kernel computes; no option of its own

  bool reference() const { return compat == "reference"; }
  /// Corpus of these options; exactly one of -f and --ids must be given.
  CorpusSpec corpus() const;
};

/// -o and --force.
struct OutputOptions {
  std::string path;
  bool force = false;
};

void add_global_options(CLI::App& app, GlobalOptions& global);
void add_run_options(CLI::App& command, RunOptions& run, bool model_required);
void add_device_options(CLI::App& command, RunOptions& run);  // --device, --dtype, --gpu-memory
/// --calibrate-from: the first position of every window that statistics count.
void add_calibrate_from(CLI::App& command, int64_t& position);
void add_output_option(CLI::App& command, OutputOptions& output, const std::string& what);

/// CLI::Range without its text in --help.
template <class T>
CLI::Validator in_range(T low, T high) {
  CLI::Validator range = CLI::Range(low, high);
  return range.description("");
}

/// --html FILE|-: the result as one page.
void add_html_option(CLI::App& command, std::string& html);

/// "a,b" -> "a", "b"; one empty part of an empty text.
std::vector<std::string> split(const std::string& text, char separator);
/// "3", "2,3,4" or "2.5" -> ascending averages without repetition, each in 1..8.
std::vector<double> parse_bits(const std::string& text, const char* option = "--bits");
/// "tq-mse,block-gtq" -> names, each known.
std::vector<std::string> parse_methods(const std::string& text);
/// The same of one list of methods, for the option it was given to.
std::vector<std::string> parse_methods(const std::string& text, const std::vector<Method>& known,
                                       const char* option);
/// "mae,kl" or "all" -> metrics, the published error always among them; empty for "mae" alone.
std::vector<Metric> parse_metrics(const std::string& text);
/// --codebook reference|exact; what it holds afterwards is for parse_codebook.
void add_codebook_option(CLI::App& command, std::string& codebook);
/// --sink and --recent; `of`: what they are the exact positions of, where that is not all that is measured.
void add_exact_options(CLI::App& command, ExactWindow& exact, const std::string& of = "");
/// Exit::usage where the sink is no whole number of pages, as caches that are served in pages want it.
void require_whole_pages(const ExactWindow& exact);
/// "8GiB", "8000MB", "80G" (of 10^9), "4e9" -> bytes; `option` for the message.
int64_t parse_bytes(const std::string& text, const char* option);

/// Columns of the terminal that standard output is; 0 where it is none.
int terminal_width();

/// Writes to standard output; a closed pipe or a full disk is Exit::output.
void write_stdout(const std::string& text);
/// Writes to standard error; where that fails there is nobody to tell.
void write_stderr(const std::string& text) noexcept;

}  // namespace blockgtq
