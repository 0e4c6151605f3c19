#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/bytes.h"
#include "base/error.h"
#include "bench_options.h"
#include "cache/exact_page.h"
#include "cache/page_layout.h"
#include "commands.h"
#include "device.h"
#include "hf/checkpoint.h"
#include "hf/gguf.h"
#include "hf/model_files.h"
#include "known_shapes.h"
#include "model/backend.h"
#include "model/model_shape.h"
#include "model/run_cost.h"
#include "report/table.h"
#include "result_files.h"
#include "serve/kv_kind.h"
#include "serving_size.h"
#include "sheet.h"
#include "store/file_sizes.h"

namespace blockgtq {
namespace {

struct Options {
  std::string model, shape, kinds = "fp16,K3V3,K2V2", contexts = "4k,32k,128k", batches = "1", memory,
                            bandwidth;
  std::string dtype = "auto", json;
  ExactWindow exact;
  int64_t tokens = 2048, chunk = 256;
};

/// A model folder, one without weights, a GGUF file, or a well-known shape.
struct Planned {
  std::string name;
  Config config;
  std::optional<Checkpoint> model;
};

Planned planned(const Options& o) {
  if (o.shape.empty() == o.model.empty()) throw Error(Exit::usage, "one of --shape and -m is expected");
  if (!o.shape.empty()) return {o.shape, known_shape(o.shape), {}};
  const fs::path folder = resolve_model(o.model);
  if (is_gguf(folder) || has_weights(folder)) {
    Planned p{folder.string(), {}, Checkpoint(folder)};
    p.config = p.model->config();
    return p;
  }
  const std::string config = (folder / "config.json").string();
  return {folder.string(), parse_config(parse_json(config_text(folder), config), config), {}};
}

/// Bytes of a number of the weights as a GPU holds them.
int number_bytes(const std::string& dtype, const Config& config) {
  return dtype == "fp32" || (dtype == "auto" && config.torch_dtype == "float32") ? 4 : 2;
}

/// Bytes of the pages that n positions fill; packed keys and values have one width and one norm each.
HeldBytes held_bytes(const PageKind& kind, const ExactWindow& window, const AttentionShape& shape) {
  const int dim = shape.layout.head_dim;
  const int64_t exact = shape.n_layers * exact_page_bytes(shape.n_kv_heads, dim);
  if (kind.is_exact()) return [exact](int64_t n) { return pages_of(n) * exact; };
  const GroupWidth key{dim, int(kind.bits.k)}, value{dim, int(kind.bits.v)};
  const int block = block_shape({&key, 1}, true, {&value, 1}, true).bytes;
  const int64_t packed = int64_t(shape.n_layers) * shape.n_kv_heads * block;
  return [=](int64_t n) { return kv_bytes(window, n, packed, exact); };
}

class Plan {
 public:
  explicit Plan(const Options& o)
      : o_(o), files_(o.json, false), p_(planned(o)), size_(model_size(p_.config)) {
    require_whole_pages(o.exact);
    shape_ = attention_shape(p_.config, 1);
    if (shape_.v_dim == 0)
      throw Error(Exit::input, p_.name + ": caches a latent, not values per head: it has no pages");
    weight_bytes_ = number_bytes(o.dtype, p_.config);
    memory_ = !o.memory.empty()    ? parse_bytes(o.memory, "--memory")
              : visible_gpus() > 0 ? gpu_info(0).total_bytes
                                   : physical_memory();
    bandwidth_ = o.bandwidth.empty() ? 0 : double(parse_bytes(o.bandwidth, "--bandwidth"));
  }

  void run() {
    const std::vector<PageKind> kinds = page_kinds(o_.kinds, "--kv");
    std::vector<int64_t> contexts, batches;
    for (const std::string& text : split(o_.contexts, ','))
      contexts.push_back(parse_count(text, "--context"));
    for (const std::string& text : split(o_.batches, ',')) batches.push_back(parse_count(text, "--batch"));
    add_model();
    add_calibration();
    for (const int64_t batch : batches)
      for (const PageKind& kind : kinds)
        for (const int64_t context : contexts) add_row(kind, int(batch), context);
    Json json = {{"schema", "blockgtq.plan/1"}};
    json.update(sheet_.json());
    json["rows"] = rows_;
    files_.write(json, sheet_.text() + "\n" + table_.text());
  }

 private:
  double weights() const { return double(size_.numbers) * weight_bytes_; }

  void add_model() {
    sheet_.add("model", p_.name);
    sheet_.add("attention",
               fmt::format("{} layers with keys, {} query heads, {} KV heads of {}", shape_.n_layers,
                           shape_.n_heads, shape_.n_kv_heads, shape_.layout.head_dim));
    sheet_.add("weights", fmt::format("{:.2f} G numbers, {:.2f} GiB at {} bytes each",
                                      1e-9 * double(size_.numbers), gib(weights()), weight_bytes_));
    sheet_.add("memory", fmt::format("{:.2f} GiB{}", gib(memory_),
                                     !o_.memory.empty()   ? " (--memory)"
                                     : visible_gpus() > 0 ? " of the first GPU"
                                                          : " of this machine"));
  }

  /// What inspect says of a run, and the disk that its files take.
  void add_calibration() {
    const int64_t chunk = o_.chunk ? std::min(o_.chunk, o_.tokens) : o_.tokens;
    const AttentionShape shape = attention_shape(p_.config, chunk);
    const int64_t layer = p_.model ? plan_memory(*p_.model, o_.tokens, chunk, false).layer_bytes
                                   : size_.largest_layer * weight_bytes_;
    sheet_.add("calibrate", fmt::format("{} tokens in windows of {}", o_.tokens, chunk));
    sheet_.add("calibrate_memory",
               fmt::format("{} of activations and {} of weights at a time",
                           bytes_text(double(activation_bytes(p_.config, o_.tokens, chunk, false))),
                           bytes_text(double(layer))));
    sheet_.add("calibrate_time", pass_time(size_, o_.tokens).text());
    sheet_.add("disk", fmt::format("at most {} of a dump in float32, {} of statistics",
                                   bytes_text(double(acts_bytes(shape, o_.tokens, 4))),
                                   bytes_text(double(stats_bytes(shape, o_.tokens, chunk)))));
  }

  void add_row(const PageKind& kind, int batch, int64_t context) {
    const HeldBytes held = held_bytes(kind, o_.exact, shape_);
    const double cache = double(held(context)) * batch;
    const double each = bytes_per_position(shape_, batch, context, held);
    const double total = weights() + each * double(context);
    const int64_t longest = longest_context(double(memory_), weights(), each);
    std::vector<std::string> cells = {kind.name,
                                      fmt::format("{}", batch),
                                      fmt::format("{}", context),
                                      fmt::format("{:.2f}", gib(cache)),
                                      fmt::format("{:.2f}", gib(total)),
                                      total <= double(memory_) ? "yes" : "no",
                                      fmt::format("{}", longest)};
    Json row = {{"kv", kind.name},
                {"batch", batch},
                {"context", context},
                {"weight_bytes", int64_t(weights())},
                {"cache_bytes", int64_t(cache)},
                {"total_bytes", int64_t(total)},
                {"memory_bytes", memory_},
                {"fits", total <= double(memory_)},
                {"longest_context", longest}};
    if (bandwidth_ > 0) {
      const double read = (size_.layer_products + double(size_.output_products)) * weight_bytes_ +
                          bytes_read(shape_, context, held) * batch;
      cells.push_back(fmt::format("{:.3f}", 1e3 * read / bandwidth_));
      row["floor_milliseconds"] = 1e3 * read / bandwidth_;
    }
    table_.row(cells);
    rows_.push_back(std::move(row));
  }

  static std::vector<std::string> columns(bool time) {
    std::vector<std::string> all = {"kv", "batch", "context", "cache GiB", "with weights", "fits", "longest"};
    if (time) all.push_back("floor ms");
    return all;
  }

  const Options& o_;
  ResultFiles files_;
  const Planned p_;
  const ModelSize size_;
  AttentionShape shape_;
  int weight_bytes_ = 2;
  int64_t memory_ = 0;
  double bandwidth_ = 0;
  Sheet sheet_;
  Table table_{columns(!o_.bandwidth.empty())};
  Json rows_ = Json::array();
};

}  // namespace

void add_plan(CLI::App& app, const GlobalOptions&) {
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "plan", "Memory, disk and time of a model's runs, and the longest context that a cache holds");
  command->add_option("-m,--model", o->model,
                      "Model folder (a config.json alone will do), GGUF file or org/name");
  command->add_option("--shape", o->shape, "A well-known model in its place: " + known_shapes());
  command
      ->add_option("--kv", o->kinds,
                   "Caches: fp16, or bits of keys and values with one norm each, as tq-mse has them: K3V3. "
                   "block-gtq has a norm for each of its groups")
      ->capture_default_str();
  command->add_option("--context", o->contexts, "Positions held: 4k,128k")->capture_default_str();
  command->add_option("--batch", o->batches, "Sequences: 1,8")->capture_default_str();
  add_exact_options(*command, o->exact, "Of packed caches");
  command->add_option("--memory", o->memory,
                      "Memory that weights and cache must fit in, 80GB; default: the first GPU's, else this "
                      "machine's. A step's own buffers come on top: bench decode measures them");
  command->add_option("--bandwidth", o->bandwidth,
                      "Bytes per second of that memory, 4.8TB: the least time of a decoding step");
  command->add_option("--dtype", o->dtype, "Of the weights in it")
      ->check(CLI::IsMember({"auto", "fp32", "bf16", "fp16"}))
      ->capture_default_str();
  command->add_option("--tokens", o->tokens, "Tokens of a calibration")
      ->check(in_range(int64_t(1), int64_t(1) << 40))
      ->capture_default_str();
  command->add_option("--chunk", o->chunk, "Tokens per window of it; 0: one window")
      ->check(in_range(int64_t(0), int64_t(1) << 30))
      ->capture_default_str();
  command->add_option("--json", o->json, "The same as JSON; - for standard output");
  command->callback([o] { Plan(*o).run(); });
}

}  // namespace blockgtq
