// Writes what this program's decoder predicts, step by step, from a packed cache: tests/python compares it
// with others.
//
//   step_logits --model MODEL --map MAP.h5 --ids IDS.txt --prompt 40 --out FILE [--bits 3]
//               [--k-method block-gtq] [--v-method tq-mse] [--trellis] [--device cuda]
//
// Without --map the pages hold fp16, in which small differences stay small: a code may be chosen otherwise.
// The first 40 ids are the prompt, the others come one by one. FILE: a line of JSON (prompt, ids, vocab,
// device), then the logits behind the prompt and behind each of the other ids, (1 + n, vocab) float32.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "model/model_shape.h"
#include "quant/methods.h"
#include "serve/cuda_sequence.h"
#include "serve/packed_specs.h"
#include "serve/paged_sequence.h"
#include "store/map_file.h"

namespace {

using namespace blockgtq;

struct Options {
  std::string model, map, ids, out, k_method = "block-gtq", v_method = "tq-mse", device = "cpu";
  double bits = 3;
  int64_t prompt = 1;
  bool trellis = false;
};

std::vector<int32_t> read_ids(const std::string& file) {
  std::ifstream in(file);
  std::vector<int32_t> ids;
  for (int32_t id; in >> id;) ids.push_back(id);
  return ids;
}

KvKind packed_kind(const Options& o, const AttentionShape& shape) {
  const BitMap map = read_map(o.map);
  const Budget* const budget = map.find(o.bits);
  if (!budget) fail_input("{}: no budget of {} bits", o.map, o.bits);
  const Code code = o.trellis ? Code::trellis : Code::scalar;
  QuantizedCache cache;
  for (int l = 0; l < map.shape.n_layers; ++l) {
    cache.keys.emplace_back();
    cache.values.emplace_back();
    for (int h = 0; h < map.shape.n_kv_heads; ++h) {
      const HeadMap head = map.head(*budget, l, h);
      cache.keys.back().push_back(make_key_quantizer(o.k_method, head, Codebook::by_method, code));
      cache.values.back().push_back(make_value_quantizer(o.v_method, head, Codebook::by_method, code));
    }
  }
  return {packed_specs(cache, shape, "step_logits"), {}};
}

void run(const Options& o) {
  const std::vector<int32_t> ids = read_ids(o.ids);
  if (o.prompt < 1 || o.prompt > int64_t(ids.size()))
    fail_input("{}: {} ids, --prompt is {}", o.ids, ids.size(), o.prompt);
  const Checkpoint model(o.model);
  const AttentionShape shape = attention_shape(model.config(), int64_t(ids.size()));
  const KvKind kind = o.map.empty() ? KvKind{} : packed_kind(o, shape);
  const bool on_cpu = o.device == "cpu";
  const auto sequence = on_cpu ? make_paged_sequence(model, shape, kind, int64_t(ids.size()))
                               : make_cuda_sequence(model, shape, kind, CudaOptions{}, int64_t(ids.size()));
  const std::span all(ids);
  const auto prompt = all.first(size_t(o.prompt)), rest = all.subspan(size_t(o.prompt));
  std::ofstream out(o.out, std::ios::binary);
  const Json head = {{"prompt", std::vector<int32_t>(prompt.begin(), prompt.end())},
                     {"ids", std::vector<int32_t>(rest.begin(), rest.end())},
                     {"vocab", model.config().vocab},
                     {"device", o.device}};
  out << head.dump() << '\n';
  const auto write = [&](std::span<const float> logits) {
    out.write(reinterpret_cast<const char*>(logits.data()), std::streamsize(logits.size_bytes()));
  };
  write(sequence->append(prompt));
  for (size_t i = 0; i < rest.size(); ++i) write(sequence->append(rest.subspan(i, 1)));
  if (!out.flush()) throw Error(Exit::output, o.out + ": cannot be written");
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Logits of every step from a packed cache");
  Options o;
  app.add_option("--model", o.model)->required();
  app.add_option("--map", o.map, "default: pages of fp16");
  app.add_option("--ids", o.ids)->required();
  app.add_option("--prompt", o.prompt, "ids of the prompt");
  app.add_option("--out", o.out)->required();
  app.add_option("--bits", o.bits);
  app.add_option("--k-method", o.k_method);
  app.add_option("--v-method", o.v_method);
  app.add_flag("--trellis", o.trellis);
  app.add_option("--device", o.device)->check(CLI::IsMember({"cpu", "cuda"}));
  CLI11_PARSE(app, argc, argv);
  try {
    run(o);
  } catch (const std::exception& e) {
    fmt::print(stderr, "error: {}\n", e.what());
    return 1;
  }
}
