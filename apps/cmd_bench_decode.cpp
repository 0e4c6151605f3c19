#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "base/stop.h"
#include "bench_decode.h"
#include "bench_options.h"
#include "command_text.h"
#include "commands.h"
#include "device.h"
#include "eval/divergence.h"
#include "options.h"
#include "report/decode_report.h"
#include "report/table.h"
#include "result_files.h"

namespace blockgtq {
namespace {

constexpr int kMostSequences = 16, kLeastContext = 128;

struct Options {
  CacheBench cache;
  RunOptions run;
  std::string shape, contexts = "4k,32k,128k", batches = "1", kinds = "fp16,K3V3,K2V2", memory;
  std::string json, html, chart;
  int steps = 100;
  bool prefill = false;
};

std::vector<std::string> columns(bool prefill) {
  std::vector<std::string> all = {"kv",       "batch",    "context",   "ms",       "p5",     "p95",
                                  "floor ms", "tokens/s", "cache GiB", "peak GiB", "longest"};
  if (prefill) all.insert(all.end(), {"prefill s", "prefill tokens/s"});
  return all;
}

class BenchDecode {
 public:
  BenchDecode(const Options& o, const CLI::App& command, const GlobalOptions& global)
      : o_(o), global_(global), typed_(command_text(command)), files_(o.json, "", "", true, o.html) {
    if (o.shape.empty() == o.run.model.empty()) throw Error(Exit::usage, "one of --shape and -m is expected");
    if (!o.shape.empty()) known_shape(o.shape);  // is it one? found out before a device is asked for
    require_whole_pages(o.cache.window);
    if (!o.chart.empty()) {
      picture_.emplace(o.chart, true);
      files_.include(*picture_);
    }
  }

  void run() {
    const std::vector<PageKind> kinds = page_kinds(o_.kinds, "--kv");
    for (const PageKind& kind : kinds)
      if (o_.cache.keys == "trellis" && !kind.is_exact()) check_trellis_bits({kind.bits}, "--kv");
    for (const std::string& text : split(o_.contexts, ',')) {
      contexts_.push_back(parse_count(text, "--context"));
      if (contexts_.back() < std::max<int64_t>(kLeastContext, o_.steps + 16))
        throw Error(Exit::usage,
                    fmt::format("--context: {}: at least {} is expected, and --steps and 16 more",
                                contexts_.back(), kLeastContext));
    }
    for (const std::string& text : split(o_.batches, ',')) {
      batches_.push_back(int(parse_count(text, "--batch")));
      if (batches_.back() > kMostSequences)
        throw Error(Exit::usage,
                    fmt::format("--batch: {}: at most {} sequences", batches_.back(), kMostSequences));
    }
    open();
    for (const int batch : batches_)
      for (const PageKind& kind : kinds) measure(kind, batch);
    json_["rows"] = rows_;
    if (picture_) picture_->write(line_chart(decode_chart(json_)));
    files_.write(json_, "", "", table_.text(),
                 [&] { return decode_html(json_, table_, typed_, BLOCKGTQ_VERSION); });
  }

 private:
  void open() {
    const int gpu = gpu_index(o_.run.device, global_);
    if (gpu < 0) throw Error(Exit::device, "bench: no GPU to measure");
    if (o_.shape.empty()) {
      model_.emplace(resolve_model(o_.run.model));
      bench_.emplace(*model_, cuda_options(o_.run, gpu));
    } else {
      bench_.emplace(known_shape(o_.shape));
    }
    const GpuInfo device = gpu_info(gpu);
    memory_ = o_.memory.empty() ? device.total_bytes : parse_bytes(o_.memory, "--memory");
    const std::string name = o_.shape.empty() ? o_.run.model : o_.shape;
    json_ = {{"schema", "blockgtq.bench-decode/1"},
             {"device", device.name},
             {"model", name},
             {"keys", o_.cache.keys},
             {"sink", o_.cache.window.sink},
             {"recent", o_.cache.window.recent},
             {"steps", o_.steps},
             {"memory_bytes", memory_}};
  }

  void measure(const PageKind& kind, int batch) {
    for (const int64_t context : contexts_) {
      check_stop();
      CacheBench cache = o_.cache;
      if (kind.is_exact()) {
        cache.keys = "fp16";
        cache.window = {};
      } else {
        cache.key_bits = int(kind.bits.k);
        cache.value_bits = int(kind.bits.v);
      }
      cache.batch = batch;
      cache.context = context;
      const DecodeTime time = bench_->time(cache, o_.steps, memory_, o_.prefill);
      add_row(kind.name, batch, context, time);
    }
  }

  void add_row(const std::string& kind, int batch, int64_t context, const DecodeTime& time) {
    const double median = quantile(time.milliseconds, 0.5), least = time.floor_milliseconds;
    const double low = quantile(time.milliseconds, 0.05), high = quantile(time.milliseconds, 0.95);
    std::vector<std::string> cells = {kind,
                                      fmt::format("{}", batch),
                                      fmt::format("{}", context),
                                      fmt::format("{:.3f}", median),
                                      fmt::format("{:.3f}", low),
                                      fmt::format("{:.3f}", high),
                                      fmt::format("{:.3f}", least),
                                      fmt::format("{:.1f}", 1e3 * batch / median),
                                      fmt::format("{:.2f}", gib(double(time.cache_bytes))),
                                      fmt::format("{:.2f}", gib(double(time.peak_bytes))),
                                      fmt::format("{}", time.longest_context)};
    Json row = {{"kv", kind},
                {"batch", batch},
                {"context", context},
                {"milliseconds", median},
                {"milliseconds_p5", low},
                {"milliseconds_p95", high},
                {"floor_milliseconds", least},
                {"weight_bytes", time.weight_bytes},
                {"cache_bytes", time.cache_bytes},
                {"peak_bytes", time.peak_bytes},
                {"longest_context", time.longest_context}};
    if (o_.prefill) {
      const double rate = double(time.prefill_tokens) / time.prefill_seconds;
      cells.insert(cells.end(), {fmt::format("{:.2f}", time.prefill_seconds), fmt::format("{:.0f}", rate)});
      row["prefill_seconds"] = time.prefill_seconds;
      row["prefill_tokens"] = time.prefill_tokens;
      row["prefill_tokens_per_second"] = rate;
    }
    table_.row(cells);
    rows_.push_back(std::move(row));
  }

  const Options& o_;
  const GlobalOptions& global_;
  std::string typed_;  // the command, for a page
  ResultFiles files_;
  std::optional<OutputFile> picture_;
  std::optional<Checkpoint> model_;
  std::optional<DecodeBench> bench_;
  std::vector<int64_t> contexts_;
  std::vector<int> batches_;
  int64_t memory_ = 0;
  Table table_{columns(o_.prefill)};
  Json json_, rows_ = Json::array();
};

}  // namespace

void add_bench_decode(CLI::App& bench, const GlobalOptions& global) {
  auto o = std::make_shared<Options>();
  CLI::App* decode = bench.add_subcommand(
      "decode",
      "A whole decoding step of a model on a GPU, from a token to the next, over a cache of its own");
  decode->add_option("--shape", o->shape, "A model's shape with random weights: " + known_shapes());
  decode->add_option("-m,--model", o->run.model, "A model itself: folder, GGUF file or org/name");
  decode->add_option("--context", o->contexts, "Positions held at the last step: 4k,128k")
      ->capture_default_str();
  decode->add_option("--batch", o->batches, "Sequences: 1,8")->capture_default_str();
  decode->add_option("--kv", o->kinds, "Caches: fp16, or bits of keys and values, K3V3")
      ->capture_default_str();
  decode
      ->add_option("--keys", o->cache.keys,
                   "Packed caches: uniform, mixed, published, centred or trellis (see bench attention)")
      ->check(CLI::IsMember({"uniform", "mixed", "published", "centred", "trellis"}).description(""))
      ->capture_default_str();
  decode
      ->add_option("--sink", o->cache.window.sink,
                   "First positions kept in fp16 beside packed ones: whole pages")
      ->check(in_range<int64_t>(0, 1 << 22))
      ->capture_default_str();
  decode->add_option("--recent", o->cache.window.recent, "Last positions kept in fp16, at least")
      ->check(in_range<int64_t>(0, 1 << 22))
      ->capture_default_str();
  decode->add_option("--steps", o->steps, "Steps that are timed; medians are shown")
      ->check(in_range(1, 10000))
      ->capture_default_str();
  decode->add_flag("--prefill", o->prefill,
                   "Also read prompts that fill the context, of random tokens, one sequence after the other: "
                   "seconds, tokens per second; the peak is the larger of both");
  decode->add_option("--memory", o->memory,
                     "Memory that the longest context is asked for, 80GB; default: the device's");
  decode->add_option("--dtype", o->run.dtype, "Of -m: auto, fp32, bf16 or fp16")->capture_default_str();
  decode->add_option("--device", o->run.device, "auto, cuda, cuda:N")->capture_default_str();
  decode->add_option("--chart", o->chart, "Time against context as SVG, with the floor that the bytes set");
  decode->add_option("--json", o->json, "The same as JSON; - for standard output");
  add_html_option(*decode, o->html);
  decode->callback([o, decode, &global] { BenchDecode(*o, *decode, global).run(); });
}

}  // namespace blockgtq
