#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/parallel.h"
#include "base/stop.h"
#include "commands.h"
#include "device.h"
#include "eval/cuda_evaluate.h"
#include "eval/cuda_stats.h"
#include "eval/score.h"
#include "quant/random.h"
#include "report/table.h"
#include "result_files.h"
#ifdef BLOCKGTQ_CUDA
#include "kernels/device/device.h"
#endif

namespace blockgtq {
namespace {

struct Options {
  int layers = 36, heads = 16, kv_heads = 2, head_dim = 128, repeat = 5;
  int64_t tokens = 2048, chunk = 256;
  std::string bits = "3", metrics = "mae", device = "auto", json;
};

double median(std::vector<double> x) {
  std::sort(x.begin(), x.end());
  return x.size() % 2 ? x[x.size() / 2] : 0.5 * (x[x.size() / 2 - 1] + x[x.size() / 2]);
}

std::vector<float> normal_numbers(size_t n) {
  constexpr size_t kPiece = 1 << 16;
  std::vector<float> x(n);
  parallel_for((n + kPiece - 1) / kPiece, [&](size_t piece) {
    Random random(piece);
    for (size_t i = piece * kPiece; i < std::min(n, (piece + 1) * kPiece); ++i)
      x[i] = float(random.standard_normal());
  });
  return x;
}

/// One layer's activations (T, heads, D) of q, k and v.
struct Activations {
  std::vector<float> q, k, v;
};

/// Random activations of every layer. Coordinates of keys and queries differ in size, and differently in
/// every layer and head, so that allocations and groups do too.
std::vector<Activations> make_activations(const Options& o, uint64_t seed,
                                          const std::vector<float>& numbers) {
  std::vector<Activations> layers(o.layers);
  const auto fill = [&](int n_heads, uint64_t which, bool even) {
    const size_t width = size_t(n_heads) * o.head_dim;
    Random random(which);
    std::vector<float> x(o.tokens * width), scale(width, 1.0f);
    for (size_t j = 0; j < width && !even; ++j) scale[j] = float(std::exp2(3 * random.next_double()));
    const size_t start = random.next_u64() % numbers.size();
    for (size_t i = 0; i < x.size(); ++i) x[i] = scale[i % width] * numbers[(start + i) % numbers.size()];
    return x;
  };
  parallel_for(layers.size(), [&](size_t l) {
    layers[l] = {fill(o.heads, seed + 3 * l, false), fill(o.kv_heads, seed + 3 * l + 1, false),
                 fill(o.kv_heads, seed + 3 * l + 2, true)};
  });
  return layers;
}

Stats empty_stats(const Options& o) {
  Stats stats;
  stats.shape.n_layers = o.layers;
  stats.shape.n_heads = o.heads;
  stats.shape.n_kv_heads = o.kv_heads;
  stats.shape.v_dim = o.head_dim;
  stats.shape.layout = {o.head_dim, o.head_dim, Pairing::half};
  for (int i = 0; i < o.head_dim / 2; ++i)
    stats.shape.ropes[0].inv_freq.push_back(std::pow(1e6, -2.0 * i / o.head_dim));
  stats.shape.ropes[0].inv_freq_raw = stats.shape.ropes[0].inv_freq;
  stats.layers.resize(o.layers);
  for (int64_t t = 0; t < o.tokens; t += o.chunk)
    stats.chunk_tokens.push_back(std::min(o.chunk, o.tokens - t));
  return stats;
}

/// The phases in the order they run, in milliseconds of wall time.
struct Phases {
  std::vector<std::pair<std::string, double>> ms;
  void time(const std::string& name, const std::function<void()>& body) {
    const auto start = std::chrono::steady_clock::now();
    body();
    ms.emplace_back(
        name, std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
  }
};

/// The next repetition's rotations must not be found in the process's cache: every one has a seed of its own.
EvalSpec make_spec(const BitMap& map, int repetition) {
  EvalSpec spec;
  spec.shape = map.shape;
  spec.methods = {"tq-mse", "block-gtq"};
  spec.budgets = map.budgets;
  spec.seed = 42 + 1000 * uint64_t(repetition);
  return spec;
}

Phases run_on_cpu(const Options& o, const std::vector<Activations>& calibration,
                  const std::vector<Activations>& evaluation, int repetition) {
  Phases phases;
  Stats stats = empty_stats(o);
  phases.time("statistics", [&] {
    for (int l = 0; l < o.layers; ++l)
      for (int64_t c = 0; c < stats.n_chunks(); ++c) {
        const int64_t first = c * o.chunk * o.head_dim;
        accumulate(stats, l, c, stats.chunk_tokens[c], calibration[l].q.data() + first * o.heads,
                   calibration[l].k.data() + first * o.kv_heads,
                   calibration[l].v.data() + first * o.kv_heads);
      }
  });
  EvalSpec spec;
  phases.time("allocation", [&] { spec = make_spec(make_bit_map(stats, parse_bits(o.bits)), repetition); });
  spec.metrics = parse_metrics(o.metrics);
  std::erase(spec.metrics, Metric::mae_model);  // the same as mae here
  spec.model = spec.shape;
  spec.chunk = o.chunk;
  phases.time("tables", [&] {  // fills the cache of rotations
    const std::vector<ScoreJob> jobs = score_jobs(spec);
    parallel_for(jobs.size() * o.layers,
                 [&](size_t i) { job_quantizer(spec, jobs[i % jobs.size()], int(i / jobs.size())); });
  });
  phases.time("evaluation", [&] {
    for (int l = 0; l < o.layers; ++l)
      evaluate_layer(spec, l, evaluation[l].q.data(), evaluation[l].k.data(), o.tokens,
                     evaluation[l].v.data());
  });
  return phases;
}

#ifdef BLOCKGTQ_CUDA
struct DeviceActivations {
  cuda::Buffer q, k, v;
};

std::vector<DeviceActivations> to_device(std::vector<Activations> layers, const cuda::Stream& stream) {
  const auto put = [&](const std::vector<float>& x) {
    cuda::Buffer buffer(x.size() * sizeof(float));
    cuda::upload(buffer.as(), x.data(), buffer.bytes(), stream);
    return buffer;
  };
  std::vector<DeviceActivations> all;
  for (const Activations& a : layers) all.push_back({put(a.q), put(a.k), put(a.v)});
  stream.synchronize();
  return all;
}

Phases run_on_gpu(const Options& o, const std::vector<DeviceActivations>& calibration,
                  const std::vector<DeviceActivations>& evaluation, const cuda::Stream& stream,
                  int repetition) {
  Phases phases;
  Stats stats = empty_stats(o);
  phases.time("statistics", [&] {
    CudaStats sums(stats);
    for (int l = 0; l < o.layers; ++l)
      sums.add_layer(l, calibration[l].q.as<float>(), calibration[l].k.as<float>(),
                     calibration[l].v.as<float>(), stream.handle());
    sums.finish();
  });
  EvalSpec spec;
  phases.time("allocation", [&] { spec = make_spec(make_bit_map(stats, parse_bits(o.bits)), repetition); });
  std::unique_ptr<CudaEvaluator> evaluator;
  phases.time("tables", [&] { evaluator = std::make_unique<CudaEvaluator>(spec); });
  phases.time("evaluation", [&] {
    for (int l = 0; l < o.layers; ++l)
      evaluator->add_layer(l, evaluation[l].q.as<float>(), evaluation[l].k.as<float>(), o.tokens,
                           stream.handle());
    evaluator->finish();
  });
  return phases;
}

std::string use_gpu(int index) {
  cuda::set_device(index);
  return cuda::probe_devices().devices.at(index).name;
}
#endif

/// All repetitions but one before them that warms up.
std::vector<Phases> run_diagnostics(const Options& o, int gpu, std::string& device) {
  const std::vector<float> numbers = normal_numbers(size_t(1) << 22);
  std::vector<Activations> calibration = make_activations(o, 1, numbers),
                           evaluation = make_activations(o, 2, numbers);
  std::vector<Phases> runs;
  const auto repeat = [&](const std::function<Phases(int)>& run) {
    for (int i = 0; i <= o.repeat; ++i) {
      check_stop();
      Phases phases = run(i);
      if (i > 0) runs.push_back(std::move(phases));
    }
  };
#ifdef BLOCKGTQ_CUDA
  if (gpu >= 0) {
    device = use_gpu(gpu);
    const cuda::Stream stream;
    const auto c = to_device(std::move(calibration), stream), e = to_device(std::move(evaluation), stream);
    repeat([&](int i) { return run_on_gpu(o, c, e, stream, i); });
    return runs;
  }
#endif
  check(gpu < 0, "bench: a GPU in a build without CUDA");
  device = fmt::format("CPU, {} threads", threads());
  repeat([&](int i) { return run_on_cpu(o, calibration, evaluation, i); });
  return runs;
}

void bench_diagnostics(const Options& o, const GlobalOptions& global) {
  std::string device;
  const int gpu = gpu_index(o.device, global);
  if (gpu >= 0 && !parse_metrics(o.metrics).empty())
    throw Error(Exit::usage, "--metrics: only mae is measured on the GPU", "--device cpu");
  ResultFiles files(o.json, true);
  const std::vector<Phases> runs = run_diagnostics(o, gpu, device);
  Table table({"phase", "ms", "ms per layer"});
  Json json = {{"schema", "blockgtq.bench-diagnostics/1"},
               {"device", device},
               {"layers", o.layers},
               {"heads", o.heads},
               {"kv_heads", o.kv_heads},
               {"head_dim", o.head_dim},
               {"tokens", o.tokens},
               {"chunk", o.chunk},
               {"bits", o.bits},
               {"metrics", o.metrics},
               {"repeat", o.repeat}};
  std::vector<double> totals(runs.size());
  const auto row = [&](const std::string& name, double ms) {
    table.row({name, fmt::format("{:.2f}", ms), fmt::format("{:.3f}", ms / o.layers)});
    json["milliseconds"][name] = ms;
  };
  for (size_t p = 0; p < runs[0].ms.size(); ++p) {
    std::vector<double> ms;
    for (size_t r = 0; r < runs.size(); ++r) {
      ms.push_back(runs[r].ms[p].second);
      totals[r] += ms.back();
    }
    row(runs[0].ms[p].first, median(ms));
  }
  row("total", median(totals));
  files.write(json, table.text());
}

void add_shape_options(CLI::App& command, Options& o) {
  command.add_option("--kv-heads", o.kv_heads, "KV heads")->check(in_range(1, 1024))->capture_default_str();
  command.add_option("--head-dim", o.head_dim, "Head dimension, even")
      ->check(CLI::IsMember({64, 80, 96, 128, 256}))
      ->capture_default_str();
  command.add_option("--tokens", o.tokens, "Tokens")
      ->check(in_range<int64_t>(1, int64_t(1) << 24))
      ->capture_default_str();
  command.add_option("--bits", o.bits, "Average bits")->capture_default_str();
  command.add_option("--repeat", o.repeat, "Repetitions; medians are shown")
      ->check(in_range(1, 10000))
      ->capture_default_str();
  command.add_option("--device", o.device, "auto, cpu, cuda, cuda:N")->capture_default_str();
  command.add_option("--json", o.json, "The same as JSON; - for standard output");
}

}  // namespace

void add_bench(CLI::App& app, const GlobalOptions& global) {
  CLI::App* bench = app.add_subcommand("bench", "Time of the main steps on random data of a model's shape");
  bench->require_subcommand(1);

  auto d = std::make_shared<Options>();
  CLI::App* diagnostics = bench->add_subcommand(
      "diagnostics",
      "Statistics, allocation and logit error of both methods; calibration and evaluation tokens");
  diagnostics->add_option("--layers", d->layers, "Layers")->check(in_range(1, 1024))->capture_default_str();
  diagnostics->add_option("--heads", d->heads, "Query heads")
      ->check(in_range(1, 1024))
      ->capture_default_str();
  diagnostics->add_option("--chunk", d->chunk, "Tokens per chunk")
      ->check(in_range<int64_t>(1, 1 << 24))
      ->capture_default_str();
  diagnostics->add_option("--metrics", d->metrics, "As of eval-logits (on the CPU)")->capture_default_str();
  add_shape_options(*diagnostics, *d);
  diagnostics->callback([d, &global] {
    if (d->heads % d->kv_heads != 0)
      throw Error(Exit::usage,
                  fmt::format("--heads: {} is no multiple of --kv-heads {}", d->heads, d->kv_heads));
    bench_diagnostics(*d, global);
  });

  add_bench_cache(*bench, global);
  add_bench_decode(*bench, global);
}

}  // namespace blockgtq
