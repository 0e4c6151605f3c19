#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/stop.h"
#include "bench_cache.h"
#include "bench_options.h"
#include "cache/page_layout.h"
#include "cache/trellis_page.h"
#include "cache_spec.h"
#include "commands.h"
#include "decimal.h"
#include "device.h"
#include "report/chart.h"
#include "report/table.h"
#include "result_files.h"
#ifdef BLOCKGTQ_CUDA
#include "kernels/device/device.h"
#endif

namespace blockgtq {
namespace {

struct Options {
  CacheBench shape;
  std::string contexts = "4k,32k,128k,512k", pairs = "K3V3", batches = "1", keys = "uniform", centres = "0",
              device = "auto";
  std::string json, chart;
  std::string chunks = "512,2048";
  int64_t tokens = 65536;
  bool values = false;
};

/// The numbers of --centres, for a kind of --keys.
std::vector<int> centre_counts(const Options& o, const std::string& kind) {
  std::vector<int> counts;
  for (const std::string& text : split(o.centres, ',')) {
    const int64_t n = text == "0" ? 0 : parse_count(text, "--centres");
    if (n == 1 || n > kMostCentres || (n & (n - 1)) != 0)
      throw Error(Exit::usage,
                  fmt::format("--centres: {}: 0, or a power of two from 2 to {}", text, kMostCentres));
    counts.push_back(int(n));
  }
  if (kind == "fp16") return {0};
  return counts;
}

/// Trellis codes have pages of some shapes only. After check_kinds() and whole_pairs().
void check_trellis(const Options& o) {
  const std::vector<std::string> kinds = split(o.keys, ',');
  if (std::find(kinds.begin(), kinds.end(), "trellis") == kinds.end()) return;
  const int dim = o.shape.head_dim;
  if (!has_trellis_page(dim, 2))
    throw Error(Exit::usage, fmt::format("--head-dim: {}: trellis codes have pages for 64 and 128", dim));
  check_trellis_bits(whole_pairs(o.pairs), "--bits");
}

#ifdef BLOCKGTQ_CUDA
/// Every one of a beside every one of b.
template <class A, class B>
std::vector<std::pair<A, B>> crossed(const std::vector<A>& a, const std::vector<B>& b) {
  std::vector<std::pair<A, B>> all;
  for (const A& x : a)
    for (const B& y : b) all.emplace_back(x, y);
  return all;
}

void set_bits(CacheBench& bench, const BitPair& pair) {
  bench.key_bits = int(pair.k), bench.value_bits = int(pair.v);
}

std::string use_gpu(const Options& o, const GlobalOptions& global) {
  const int gpu = gpu_index(o.device, global);
  if (gpu < 0) throw Error(Exit::device, "bench: no GPU to measure");
  cuda::set_device(gpu);
  return cuda::probe_devices().devices.at(gpu).name;
}

void add_row(Table& table, Json& rows, const Json& what, const std::vector<std::string>& cells,
             const CacheTime& time, double copy) {
  std::vector<std::string> row = cells;
  const double rate = time.bytes / (1e-6 * time.microseconds);
  row.push_back(fmt::format("{:.2f}", time.microseconds));
  row.push_back(fmt::format("{:.1f}", 1e6 * time.bytes / copy));
  row.push_back(fmt::format("{:.2f}", rate / copy));
  row.push_back(fmt::format("{:.1f}", time.bytes_per_position));
  table.row(row);
  Json json = what;
  json["microseconds"] = time.microseconds;
  json["bytes"] = time.bytes;
  json["fraction_of_copy"] = rate / copy;
  json["bytes_per_position"] = time.bytes_per_position;
  rows.push_back(std::move(json));
}

void bench_attention(const Options& o, const GlobalOptions& global) {
  const std::string device = use_gpu(o, global);
  const double copy = copy_rate(o.shape.repeat);
  Table table({"keys", "bits", "centres", "batch", "context", "us per layer", "floor us", "of copy",
               "bytes per position"});
  Json json = {{"schema", "blockgtq.bench-attention/1"},
               {"device", device},
               {"layers", o.shape.layers},
               {"heads", o.shape.heads},
               {"kv_heads", o.shape.kv_heads},
               {"head_dim", o.shape.head_dim},
               {"sink", o.shape.window.sink},
               {"recent", o.shape.window.recent},
               {"repeat", o.shape.repeat},
               {"copy_bytes_per_second", copy},
               {"rows", Json::array()}};
  Chart chart{fmt::format("Decode attention on {}", device),
              "context (positions)",
              "microseconds per layer",
              {},
              {},
              true,
              true};
  for (const std::string& context : split(o.contexts, ','))
    chart.x.push_back(double(parse_count(context, "--context")));
  for (const std::string& kind : split(o.keys, ','))
    for (const BitPair& bits : kind == "fp16" ? std::vector<BitPair>{{16, 16}} : whole_pairs(o.pairs))
      for (const auto& [batch, centres] : crossed(split(o.batches, ','), centre_counts(o, kind))) {
        const std::string pair = pair_text(bits);
        Series times{fmt::format("{} {} batch {}", kind, pair, batch), {}};
        if (centres > 0) times.name += fmt::format(", {} centres", centres);
        Series floor{times.name + ", bytes / copy rate", {}, int(chart.series.size() / 2), 1};
        times.color = floor.color;
        for (const double context : chart.x) {
          check_stop();
          CacheBench bench = o.shape;
          bench.keys = kind;
          set_bits(bench, bits);
          bench.centres = centres;
          bench.batch = int(parse_count(batch, "--batch"));
          bench.context = int64_t(context);
          const CacheTime time = time_decode(bench);
          add_row(table, json["rows"],
                  {{"keys", kind},
                   {"bits", pair},
                   {"centres", centres},
                   {"batch", bench.batch},
                   {"context", bench.context}},
                  {kind, pair, fmt::format("{}", centres), batch, fmt::format("{}", bench.context)}, time,
                  copy);
          times.y.push_back(time.microseconds);
          floor.y.push_back(1e6 * time.bytes / copy);
        }
        chart.series.push_back(times);
        chart.series.push_back(floor);
      }
  ResultFiles files(o.json, true);
  std::optional<OutputFile> picture;
  if (!o.chart.empty()) {
    picture.emplace(o.chart, true);
    picture->write(line_chart(chart));
    files.include(*picture);
  }
  files.write(json, table.text());
}

void bench_prefill(const Options& o, const GlobalOptions& global) {
  const std::string device = use_gpu(o, global);
  Table table(
      {"keys", "bits", "centres", "batch", "context", "chunk", "us per layer", "of which expand", "TFLOP/s"});
  Json json = {{"schema", "blockgtq.bench-prefill/2"},
               {"device", device},
               {"layers", o.shape.layers},
               {"heads", o.shape.heads},
               {"kv_heads", o.shape.kv_heads},
               {"head_dim", o.shape.head_dim},
               {"spread", o.shape.spread},
               {"group_blocks", o.shape.group_blocks},
               {"repeat", o.shape.repeat},
               {"rows", Json::array()}};
  for (const std::string& kind : split(o.keys, ','))
    for (const BitPair& bits : whole_pairs(o.pairs))
      for (const auto& [batch, centres] : crossed(split(o.batches, ','), centre_counts(o, kind)))
        for (const std::string& context : split(o.contexts, ','))
          for (const std::string& chunk : split(o.chunks, ',')) {
            check_stop();
            CacheBench bench = o.shape;
            bench.keys = kind;
            set_bits(bench, bits);
            bench.centres = centres;
            bench.batch = int(parse_count(batch, "--batch"));
            bench.context = parse_count(context, "--context");
            const int64_t tokens = parse_count(chunk, "--chunk");
            const PrefillTime time = time_prefill(bench, tokens);
            // Two products of D per query head and position seen, a multiplication and an addition each.
            const double work = 4.0 * bench.batch * double(tokens) *
                                (double(bench.context) + double(tokens) / 2) * bench.heads * bench.head_dim;
            const double rate = work / (1e-6 * time.microseconds);
            table.row({kind, pair_text(bits), fmt::format("{}", centres), batch,
                       fmt::format("{}", bench.context), fmt::format("{}", tokens),
                       fmt::format("{:.1f}", time.microseconds),
                       fmt::format("{:.1f}", time.expand_microseconds), fmt::format("{:.1f}", 1e-12 * rate)});
            json["rows"].push_back({{"keys", kind},
                                    {"bits", pair_text(bits)},
                                    {"centres", centres},
                                    {"batch", bench.batch},
                                    {"context", bench.context},
                                    {"chunk", tokens},
                                    {"microseconds", time.microseconds},
                                    {"expand_microseconds", time.expand_microseconds},
                                    {"flops_per_second", rate},
                                    {"bytes_per_position", time.bytes_per_position}});
          }
  ResultFiles(o.json, true).write(json, table.text());
}

void bench_encode(const Options& o, const GlobalOptions& global) {
  const std::string device = use_gpu(o, global);
  const double copy = copy_rate(o.shape.repeat);
  Table table(
      {"keys", "bits", "centres", "tokens", "us per layer", "floor us", "of copy", "bytes per position"});
  Json json = {{"schema", "blockgtq.bench-encode/2"},
               {"device", device},
               {"kv_heads", o.shape.kv_heads},
               {"spread", o.shape.spread},
               {"group_blocks", o.shape.group_blocks},
               {"head_dim", o.shape.head_dim},
               {"values", o.values},
               {"repeat", o.shape.repeat},
               {"copy_bytes_per_second", copy},
               {"rows", Json::array()}};
  for (const std::string& kind : split(o.keys, ','))
    for (const auto& [bits, centres] : crossed(whole_pairs(o.pairs), centre_counts(o, kind))) {
      check_stop();
      CacheBench bench = o.shape;
      bench.keys = kind;
      bench.centres = centres;
      set_bits(bench, bits);
      add_row(table, json["rows"],
              {{"keys", kind}, {"bits", pair_text(bits)}, {"centres", centres}, {"tokens", o.tokens}},
              {kind, pair_text(bits), fmt::format("{}", centres), fmt::format("{}", o.tokens)},
              time_encode(bench, o.tokens, o.values), copy);
    }
  ResultFiles(o.json, true).write(json, table.text());
}
#else
void bench_attention(const Options& o, const GlobalOptions& global) {
  gpu_index(o.device == "auto" ? "cuda" : o.device, global);  // says why there is none
  throw Error(Exit::device, "bench: no GPU to measure");
}
void bench_prefill(const Options& o, const GlobalOptions& global) {
  bench_attention(o, global);
}
void bench_encode(const Options& o, const GlobalOptions& global) {
  bench_attention(o, global);
}
#endif

void add_shape_options(CLI::App& command, Options& o) {
  command.add_option("--layers", o.shape.layers, "Layers whose caches are used in turn")
      ->check(in_range(1, 1024))
      ->capture_default_str();
  command.add_option("--kv-heads", o.shape.kv_heads, "KV heads")
      ->check(in_range(1, 1024))
      ->capture_default_str();
  command.add_option("--head-dim", o.shape.head_dim, "Head dimension")
      ->check(CLI::IsMember({64, 80, 96, 128, 256}))
      ->capture_default_str();
  command.add_option("--bits", o.pairs, "Average key and value bits: K3V3,K2V2")->capture_default_str();
  command
      .add_option("--keys", o.keys,
                  "uniform; mixed: widths by block, one norm per key; published: the same, a norm per group; "
                  "centred: mixed, less the mean; trellis: uniform, keys and values in trellis "
                  "codes of 2 to 4 bits; fp16 (attention only): not packed")
      ->capture_default_str();
  command
      .add_option("--centres", o.centres,
                  "Centres of values in place of their mean: 0,64,256; 0: none, else a power of two")
      ->capture_default_str();
  command
      .add_option(
          "--spread", o.shape.spread,
          "Mixed widths: log2 of how far the blocks' energies lie apart. 4: widths like those of trained "
          "models, one below to one above the average; 10: 1 to 6 bits")
      ->check(in_range(0.0, 40.0))
      ->capture_default_str();
  command
      .add_option("--group-blocks", o.shape.group_blocks,
                  "Mixed widths: blocks of a width, a multiple of this; 8: whole slabs, as allocate "
                  "--group-blocks gives")
      ->check(in_range(1, 8))
      ->capture_default_str();
  command.add_option("--repeat", o.shape.repeat, "Repetitions; medians are shown")
      ->check(in_range(1, 10000))
      ->capture_default_str();
  command.add_option("--device", o.device, "auto, cuda, cuda:N")->capture_default_str();
  command.add_option("--json", o.json, "The same as JSON; - for standard output");
}

void add_attention_options(CLI::App& command, Options& o) {
  command.add_option("--heads", o.shape.heads, "Query heads")
      ->check(in_range(1, 1024))
      ->capture_default_str();
  command.add_option("--context", o.contexts, "Positions held: 4k,128k")->capture_default_str();
  command.add_option("--batch", o.batches, "Sequences: 1,8")->capture_default_str();
}

void check_attention_options(const Options& o, const std::vector<std::string>& kinds) {
  if (o.shape.heads % o.shape.kv_heads != 0)
    throw Error(Exit::usage,
                fmt::format("--heads: {} is no multiple of --kv-heads {}", o.shape.heads, o.shape.kv_heads));
  check_kinds(o.keys, kinds);
  whole_pairs(o.pairs);
  centre_counts(o, "");
  check_trellis(o);
  for (const std::string& context : split(o.contexts, ',')) parse_count(context, "--context");
  for (const std::string& batch : split(o.batches, ',')) parse_count(batch, "--batch");
}

}  // namespace

void add_bench_cache(CLI::App& bench, const GlobalOptions& global) {
  auto a = std::make_shared<Options>();
  CLI::App* attention =
      bench.add_subcommand("attention", "Attention of one new token over a packed cache, on a GPU");
  add_attention_options(*attention, *a);
  attention
      ->add_option("--sink", a->shape.window.sink,
                   "First positions kept in fp16 beside packed ones: whole pages")
      ->check(in_range<int64_t>(0, 1 << 22))
      ->capture_default_str();
  attention->add_option("--recent", a->shape.window.recent, "Last positions kept in fp16, at least")
      ->check(in_range<int64_t>(0, 1 << 22))
      ->capture_default_str();
  attention->add_option("--chart", a->chart,
                        "Time against context as SVG, with the floor that the bytes set");
  add_shape_options(*attention, *a);
  attention->callback([a, &global] {
    check_attention_options(*a, {"trellis", "fp16"});
    require_whole_pages(a->shape.window);
    bench_attention(*a, global);
  });

  auto p = std::make_shared<Options>();
  p->contexts = "32k";
  CLI::App* prefill = bench.add_subcommand(
      "prefill", "Attention of a chunk of new tokens over a packed cache and itself, on a GPU");
  add_attention_options(*prefill, *p);
  prefill->add_option("--chunk", p->chunks, "New tokens per sequence: 512,2048")->capture_default_str();
  add_shape_options(*prefill, *p);
  prefill->callback([p, &global] {
    check_attention_options(*p, {"trellis"});
    for (const std::string& chunk : split(p->chunks, ',')) parse_count(chunk, "--chunk");
    bench_prefill(*p, global);
  });

  auto e = std::make_shared<Options>();
  e->shape.kv_heads = e->shape.heads = 8;
  e->shape.layers = 2;
  CLI::App* encode =
      bench.add_subcommand("encode", "New tokens into a packed cache, on a GPU, beside the rate of a copy");
  encode->add_option("--tokens", e->tokens, "Tokens")
      ->check(in_range<int64_t>(1, 1 << 22))
      ->capture_default_str();
  encode->add_flag("--values", e->values, "Values too, not keys alone");
  add_shape_options(*encode, *e);
  encode->callback([e, &global] {
    check_kinds(e->keys, {"trellis"});
    whole_pairs(e->pairs);
    centre_counts(*e, "");
    check_trellis(*e);
    e->shape.heads = e->shape.kv_heads;
    bench_encode(*e, global);
  });
}

}  // namespace blockgtq
