#include "served_model.h"

#include <fmt/format.h>

#include "base/error.h"
#include "device.h"
#include "evaluation.h"
#include "hf/corpus.h"
#include "model/model_shape.h"
#include "model/weights.h"
#include "quant/bit_split.h"
#include "serve/cuda_sequence.h"
#include "serve/packed_specs.h"
#include "serve/paged_sequence.h"
#include "serve/sequence_batch.h"
#include "serve/simulated_sequence.h"
#include "store/map_file.h"

namespace blockgtq {
namespace {

CacheSpec only_spec(const CacheOptions& caches) {
  const std::vector<CacheSpec> specs = cache_specs(caches);
  if (specs.size() > 1)
    throw Error(Exit::usage,
                fmt::format("{} caches are described, a text is written with one: {} and {} of them",
                            specs.size(), describe(specs[0]), describe(specs[1])),
                "--pairs names the bits, as K3V3");
  return specs[0];
}

}  // namespace

ServedModel::ServedModel(const ServeOptions& o, const GlobalOptions& global, Progress& progress)
    : o_(o), global_(global) {
  const bool describes_cache = !o.caches.k_methods.empty() || !o.caches.v_methods.empty();
  if (!o.kv.empty() && !o.map.empty())
    throw Error(Exit::usage,
                "--kv and --map exclude each other: --kv MAP serves from pages, --map simulates");
  if (pages_in_fp16() && (describes_cache || o.caches.exact != ExactWindow{}))
    throw Error(Exit::usage, "--kv fp16: nothing is quantized: no methods, bits and exact positions");
  if (describes_cache && o.kv.empty()) spec_ = only_spec(o.caches);
  folder_ = resolve_model(o.run.model);
  model_.emplace(folder_);
  for (const std::string& remark : check_weights(*model_)) progress.warn(remark);
  RunOptions run = o.run;
  const Config& config = model_->config();
  run.without_kernel = spec_      ? "a cache that is simulated"
                       : packed() ? without_step(config)
                                  : without_sequence(config);
  on_gpu_ = choose_device(run, config, global).device != "cpu";
  has_pages_ = has_pages(config, on_gpu_);
  if (on_gpu_ && !has_pages_)
    progress.warn(
        fmt::format("no step for {}: every token is a forward pass, over exact keys and values in float32",
                    without_step(config)));
  else if (pages_in_fp16() && !has_pages_)
    progress.warn("no pages for a latent: it is held exactly, in float32");
  tokenizer_.emplace(open_tokenizer(folder_));
  for (const std::string& warning : tokenizer_->warnings()) progress.warn(warning);
  last_tokens_ = last_token_ids(folder_, config.vocab);
  if (o.chunk_given && !paged() && !on_gpu_)
    throw Error(Exit::usage, pages()
                                 ? "--prefill-chunk: pages are read in chunks, and a latent has none"
                                 : "--prefill-chunk: pages are read in chunks: --kv, or a GPU, is expected");
  open_cache(progress);
  if (o.chat) chat_ = open_chat_format(folder_);
}

/// What --kv MAP holds where nothing else is said: name_page_methods(), and the map's first budget.
CacheSpec ServedModel::spec_of_map(const BitMap& map) const {
  CacheOptions caches = o_.caches;
  name_page_methods(caches.k_methods, caches.v_methods, codes_of(caches) == std::vector{Code::trellis});
  if (caches.pairs.empty() && caches.bits_k.empty() && caches.bits_v.empty()) {
    const std::string bits = bits_text(map.budgets.at(0).average_bits);
    caches.pairs = fmt::format("K{}V{}", bits, bits);
    if (map.budgets.size() > 1)
      global_.say(fmt::format("--kv {}: {}, the first of its {} budgets: --pairs names another", o_.kv,
                              caches.pairs, map.budgets.size()));
  }
  return only_spec(caches);
}

void ServedModel::open_cache(Progress& progress) {
  const AttentionShape shape = attention_shape(model_->config(), 1);
  std::optional<BitMap> map;
  if (const std::string file = packed() ? o_.kv : o_.map; !file.empty()) {
    map = read_map(file);
    check_same_attention(map->shape, shape);
    if (packed()) spec_ = spec_of_map(*map);
  }
  if (!spec_) return;
  const BitMap* found = map ? &*map : nullptr;
  const std::vector<CacheSpec> specs = specs_of_model({*spec_}, shape, folder_.string(), false, progress);
  spec_ = resolve_chosen(specs, found, progress).at(0);
  cache_ = make_cache(*spec_, shape, found, codebook_of(o_.caches, o_.run));
  for (const auto* layers : {&cache_.keys, &cache_.values})
    if (!layers->empty() && !layers->at(0).at(0)->per_vector())
      throw Error(Exit::usage,
                  fmt::format("{}: neighbouring tokens share scales, and here they come one by one",
                              describe(*spec_)));
}

std::string ServedModel::cache() const {
  const std::string held = spec_ ? describe(*spec_) : paged() ? "fp16" : "exact";
  return held + (paged() ? ", pages" : "");
}

int64_t ServedModel::prefill_chunk() const {
  return paged() || on_gpu_ ? o_.prefill_chunk : 0;
}

void ServedModel::require_prompt(const std::vector<int32_t>& ids) const {
  const int vocab = model_->config().vocab;
  for (const int32_t id : ids)
    if (id < 0 || id >= vocab)
      fail_input("{}: a token the model does not have: {}, allowed: 0..{}", folder_.string(), id, vocab - 1);
  if (ids.empty())
    throw Error(Exit::input, "the prompt has no tokens", "--bos begins it with the model's first token");
}

std::vector<int32_t> ServedModel::tokens_of(const std::string& text) {
  std::string whole = text;
  if (chat_) {
    whole = chat_->prompt(text, o_.system.empty() ? std::nullopt : std::optional(o_.system));
    global_.note("prompt: " + whole);
  }
  const std::vector<int32_t> tokens = tokenizer_->encode(whole);
  std::vector<int32_t> ids;
  if (o_.run.bos) ids.push_back(first_token_id(folder_, model_->config().vocab));
  if (chat_ && !tokens.empty() && ids == std::vector{tokens[0]}) ids.clear();  // the template writes it
  ids.insert(ids.end(), tokens.begin(), tokens.end());
  require_prompt(ids);
  return ids;
}

KvKind ServedModel::kv_kind(const AttentionShape& shape) const {
  if (!spec_) return {};
  require_whole_pages(spec_->exact);
  return {packed_specs(cache_, shape, describe(*spec_)), spec_->exact};
}

std::unique_ptr<Sequence> ServedModel::make_sequence(int64_t context) const {
  if (!paged() && !on_gpu_) return make_simulated_sequence(*model_, cache_, context);
  const AttentionShape shape = attention_shape(model_->config(), context);
  const KvKind kind = kv_kind(shape);
  if (!on_gpu_) return make_paged_sequence(*model_, shape, kind, context, o_.prefill_chunk);
  const CudaOptions options = cuda_options(o_.run, gpu_index(o_.run.device, global_));
  return make_cuda_sequence(*model_, shape, kind, options, context, o_.prefill_chunk);
}

std::unique_ptr<Batch> ServedModel::make_batch(int slots, int64_t context) const {
  if (!on_gpu_) return make_sequence_batch(slots, [this](int64_t most) { return make_sequence(most); });
  const AttentionShape shape = attention_shape(model_->config(), context);
  const CudaOptions options = cuda_options(o_.run, gpu_index(o_.run.device, global_));
  return make_cuda_batch(*model_, shape, kv_kind(shape), options, slots, context, o_.prefill_chunk);
}

void add_serve_options(CLI::App& command, ServeOptions& o) {
  command.add_option("-m,--model", o.run.model, "Model folder, GGUF file or org/name")->required();
  CLI::Option* chat = command.add_flag(
      "--chat", o.chat,
      "The text is what a user says, and the model's chat template goes around it (ChatML, Llama 3, Mistral, "
      "DeepSeek, Gemma, Phi-3, Phi-4, GLM-4)");
  command.add_option("--system", o.system, "What the system says in place of the template's own text")
      ->needs(chat);
  command.add_flag("--bos,!--no-bos", o.run.bos, "Begin with the model's first-token id (default: no)");
  command.add_option(
      "--kv", o.kv,
      "Serve from pages: fp16, or packed as this bit map of calibrate says (where they are not given "
      "--k-method block-gtq, --v-method tq-mse; with --code trellis tq-mse-cb and tq-mse-centred; --pairs "
      "its "
      "first budget); on a GPU the default is fp16");
  command.add_option("--map", o.map, "Simulate a cache by this bit map of calibrate, on the CPU");
  command
      .add_option("--prefill-chunk", o.prefill_chunk,
                  "Prompt tokens that are read together: they attend to each other exactly, and to those "
                  "before them as the pages give them back; a prompt of no more attends exactly. Fewer take "
                  "less memory")
      ->check(in_range(int64_t(1), int64_t(1) << 22))
      ->capture_default_str()
      ->each([&o](const std::string&) { o.chunk_given = true; });
  add_cache_options(command, o.caches);
  add_device_options(command, o.run);
}

}  // namespace blockgtq
