#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "cache_spec.h"
#include "commands.h"
#include "device.h"
#include "eval/sampler.h"
#include "evaluation.h"
#include "hf/chat_format.h"
#include "hf/corpus.h"
#include "hf/text_source.h"
#include "hf/tokenizer.h"
#include "model/model_shape.h"
#include "model/weights.h"
#include "result_files.h"
#include "serve/cuda_sequence.h"
#include "serve/packed_specs.h"
#include "serve/paged_sequence.h"
#include "serve/simulated_sequence.h"
#include "session.h"
#include "store/map_file.h"

namespace blockgtq {
namespace {

constexpr size_t kTextBefore = 8;  // prompt tokens that are decoded with the new ones: pieces that begin a
                                   // text lose their space

struct Options {
  RunOptions run;
  CacheOptions caches;
  std::string kv, map, prompt, json, system;
  Sampling sampling;
  std::vector<std::string> stop;
  int64_t tokens = 128, prefill_chunk = kPromptChunk;
  uint64_t seed = 42;
  bool chat = false, force = false, chunk_given = false;
};

/// Bytes at the start of text that are whole UTF-8 characters.
size_t whole_characters(const std::string& text) {
  size_t n = text.size();
  for (size_t back = 1; back <= std::min<size_t>(4, text.size()); ++back) {
    const auto byte = uint8_t(text[text.size() - back]);
    if ((byte & 0xc0) == 0x80) continue;
    const size_t length = byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
    if (length > back) n -= back;
    break;
  }
  return n;
}

class Generate {
 public:
  Generate(const Options& o, const GlobalOptions& global)
      : o_(o), global_(global), progress_(global.make_progress()), files_(o.json, o.force) {
    if (!o.kv.empty() && !o.map.empty())
      throw Error(Exit::usage,
                  "--kv and --map exclude each other: --kv MAP serves from pages, --map simulates");
    if (pages_in_fp16() && describes_cache())
      throw Error(Exit::usage, "--kv fp16: nothing is quantized: no methods, bits and exact positions");
    if (describes_cache() && o.kv.empty()) spec_ = only_spec(o.caches);
    if (o.prompt.empty() + o.run.files.empty() + o.run.ids.empty() != 2)
      throw Error(Exit::usage, "a prompt is expected: one of -p, -f and --ids");
    if (std::find(o.stop.begin(), o.stop.end(), "") != o.stop.end())
      throw Error(Exit::usage, "--stop: an empty text is in every text");
    if (o.chat && !o.run.ids.empty()) throw Error(Exit::usage, "--chat: a text is expected: -p or -f");
  }

  void run() {
    open();
    const std::vector<int32_t> prompt = read_prompt();
    const int64_t context = int64_t(prompt.size()) + o_.tokens;
    if (const std::string text = beyond_positions(*model_, context); !text.empty()) progress_->warn(text);
    const std::unique_ptr<Sequence> sequence = make_sequence(context);
    const auto begin = std::chrono::steady_clock::now();
    logits_ = sequence->append(prompt);
    const double prompt_seconds = seconds_since(begin);
    write_tokens(prompt, *sequence);
    report(prompt, *sequence, prompt_seconds, seconds_since(begin) - prompt_seconds);
  }

 private:
  static double seconds_since(std::chrono::steady_clock::time_point begin) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }

  bool pages_in_fp16() const { return o_.kv == "fp16"; }
  bool pages() const { return !o_.kv.empty(); }
  bool paged() const { return pages() || on_gpu_; }
  /// Whether a prompt is read in chunks: of pages, but where the GPU has no kernels for it.
  bool in_chunks() const { return paged() && !(on_gpu_ && !without_prompt(model_->config()).empty()); }
  bool describes_cache() const { return !o_.caches.k_methods.empty() || !o_.caches.v_methods.empty(); }

  static CacheSpec only_spec(const CacheOptions& caches) {
    const std::vector<CacheSpec> specs = cache_specs(caches);
    if (specs.size() > 1)
      throw Error(Exit::usage,
                  fmt::format("{} caches are described, a text is written with one: {} and {} of them",
                              specs.size(), describe(specs[0]), describe(specs[1])),
                  "--pairs names the bits, as K3V3");
    return specs[0];
  }

  void open() {
    folder_ = resolve_model(o_.run.model);
    model_.emplace(folder_);
    for (const std::string& remark : check_weights(*model_)) progress_->warn(remark);
    RunOptions run = o_.run;
    run.without_kernel = spec_ ? "a cache that is simulated" : without_step(model_->config());
    on_gpu_ = choose_device(run, model_->config(), global_).device != "cpu";
    tokenizer_.emplace(open_tokenizer(folder_));
    for (const std::string& warning : tokenizer_->warnings()) progress_->warn(warning);
    ends_ = last_token_ids(folder_, model_->config().vocab);
    if (o_.chunk_given && !paged())
      throw Error(Exit::usage, "--prefill-chunk: pages are read in chunks: --kv, or a GPU, is expected");
    open_cache();
  }

  /// What --kv MAP holds where nothing else is said: the published methods at the map's first budget.
  CacheSpec spec_of_map(const BitMap& map) const {
    CacheOptions caches = o_.caches;
    if (caches.k_methods.empty()) caches.k_methods = "block-gtq";
    if (caches.v_methods.empty()) caches.v_methods = "tq-mse";
    const std::string bits = bits_text(map.budgets.at(0).average_bits);
    if (caches.pairs.empty() && caches.bits_k.empty() && caches.bits_v.empty())
      caches.pairs = fmt::format("K{}V{}", bits, bits);
    return only_spec(caches);
  }

  void open_cache() {
    const AttentionShape shape = attention_shape(model_->config(), 1);
    std::optional<BitMap> map;
    if (const std::string file = pages() && !pages_in_fp16() ? o_.kv : o_.map; !file.empty()) {
      map = read_map(file);
      check_same_attention(map->shape, shape);
      if (pages()) spec_ = spec_of_map(*map);
    }
    if (!spec_) return;
    const BitMap* found = map ? &*map : nullptr;
    const std::vector<CacheSpec> specs = specs_of_model({*spec_}, shape, folder_.string(), false, *progress_);
    spec_ = resolve_chosen(specs, found, *progress_).at(0);
    cache_ = make_cache(*spec_, shape, found, codebook_of(o_.caches, o_.run));
    for (const auto* layers : {&cache_.keys, &cache_.values})
      if (!layers->empty() && !layers->at(0).at(0)->per_vector())
        throw Error(Exit::usage,
                    fmt::format("{}: neighbouring tokens share scales, and here they come one by one",
                                describe(*spec_)));
  }

  std::unique_ptr<Sequence> make_sequence(int64_t context) const {
    if (!paged()) return make_simulated_sequence(*model_, cache_, context);
    const AttentionShape shape = attention_shape(model_->config(), context);
    KvKind kind;
    if (spec_) {
      require_whole_pages(spec_->exact);
      kind = {packed_specs(cache_, shape, describe(*spec_)), spec_->exact};
    }
    if (!on_gpu_) return make_paged_sequence(*model_, shape, kind, context, o_.prefill_chunk);
    const CudaOptions options = cuda_options(o_.run, gpu_index(o_.run.device, global_));
    return make_cuda_sequence(*model_, shape, kind, options, context, o_.prefill_chunk);
  }

  /// The text of -p or -f, as the model's chat template has it where that is asked for.
  std::string prompt_text() const {
    std::string text = o_.prompt;
    for (const std::string& file : o_.run.files)
      text += TextSource(file, kMaxCorpusBytes - text.size()).text();
    if (!o_.chat) return text;
    const ChatFormat format = open_chat_format(folder_);
    text = format.prompt(text, o_.system.empty() ? std::nullopt : std::optional(o_.system));
    global_.note("prompt: " + text);
    return text;
  }

  std::vector<int32_t> read_prompt() const {
    const int vocab = model_->config().vocab;
    std::vector<int32_t> ids;
    if (o_.run.ids.empty()) {
      const std::vector<int32_t> text = tokenizer_->encode(prompt_text());
      if (o_.run.bos) ids.push_back(first_token_id(folder_, vocab));
      if (o_.chat && !text.empty() && ids == std::vector{text[0]}) ids.clear();  // the template writes it
      ids.insert(ids.end(), text.begin(), text.end());
    } else {
      CorpusSpec spec = o_.run.corpus();
      spec.n_tokens = 0;
      ids = read_corpus(spec, folder_, vocab).ids;
    }
    for (const int32_t id : ids)
      if (id >= vocab)
        fail_input("{}: the tokenizer gives a token the model does not have: {}, allowed: 0..{}",
                   folder_.string(), id, vocab - 1);
    if (ids.empty())
      throw Error(Exit::input, "the prompt has no tokens", "--bos begins it with the model's first token");
    return ids;
  }

  void write_tokens(const std::vector<int32_t>& prompt, Sequence& sequence) {
    Random random(o_.seed);
    const size_t before = std::min(prompt.size(), kTextBefore);
    std::vector<int32_t> tail(prompt.end() - std::ptrdiff_t(before), prompt.end());
    const size_t known = tokenizer_->decode(tail).size();
    size_t printed = 0;
    ended_ = "length";
    while (int64_t(ids_.size()) < o_.tokens) {
      const int32_t next = sample(o_.sampling, logits_, random);
      ids_.push_back(next);
      if (std::find(ends_.begin(), ends_.end(), next) != ends_.end()) {
        ended_ = "end token";
        break;
      }
      tail.push_back(next);
      const std::string all = tokenizer_->decode(tail);
      text_ = all.size() > known ? all.substr(known) : "";
      if (cut_at_stop()) break;
      const size_t whole = whole_characters(text_);
      if (whole > printed && o_.json != "-") write_stdout(text_.substr(printed, whole - printed));
      printed = std::max(printed, whole);
      if (int64_t(ids_.size()) < o_.tokens) logits_ = sequence.append({&ids_.back(), 1});
    }
    if (o_.json != "-") write_stdout((text_.size() > printed ? text_.substr(printed) : "") + "\n");
  }

  /// Whether a --stop text has come; what begins with it is taken off.
  bool cut_at_stop() {
    for (const std::string& stop : o_.stop) {
      const size_t at = text_.find(stop);
      if (at == std::string::npos) continue;
      text_.resize(at);
      ended_ = "stop";
      return true;
    }
    return false;
  }

  void report(const std::vector<int32_t>& prompt, const Sequence& sequence, double prompt_seconds,
              double seconds) {
    const int64_t bytes = sequence.cache_bytes();
    const std::string held = spec_     ? describe(*spec_)
                             : paged() ? "fp16"
                                       : "exact",
                      cache = held + (paged() ? ", pages" : "");
    if (sequence.clipped() > 0)
      progress_->warn(fmt::format("{} fp16 norms were cut to 65504", sequence.clipped()));
    const double rate = seconds > 0 ? double(ids_.size()) / seconds : 0;
    global_.say(
        fmt::format("{} prompt tokens in {:.1f} s, {} tokens at {:.2f} per second; cache: {}, {:.2f} MB",
                    prompt.size(), prompt_seconds, ids_.size(), rate, cache, 1e-6 * double(bytes)));
    const Json json = {{"schema", "blockgtq.generate/1"},
                       {"model", folder_.string()},
                       {"cache", cache},
                       {"device", on_gpu_ ? "cuda" : "cpu"},
                       {"prompt_tokens", prompt.size()},
                       {"prefill_chunk", in_chunks() ? Json(o_.prefill_chunk) : Json()},
                       {"ids", ids_},
                       {"text", text_.substr(0, whole_characters(text_))},
                       {"ended", ended_},
                       {"prompt_seconds", prompt_seconds},
                       {"seconds", seconds},
                       {"cache_bytes", bytes}};
    files_.write(json, "");
  }

  const Options& o_;
  const GlobalOptions& global_;
  std::unique_ptr<Progress> progress_;
  ResultFiles files_;
  std::optional<CacheSpec> spec_;  // none: exact
  fs::path folder_;
  std::optional<Checkpoint> model_;
  std::optional<Tokenizer> tokenizer_;
  bool on_gpu_ = false;
  QuantizedCache cache_;  // empty: exact
  std::vector<int32_t> ends_, ids_;
  std::span<const float> logits_;  // behind the last token
  std::string text_, ended_;
};

}  // namespace

void add_generate(CLI::App& app, const GlobalOptions& global) {
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "generate", "Continue a text, with keys and values exact or as a quantized cache gives them back");
  command->add_option("-m,--model", o->run.model, "Model folder, GGUF file or org/name")->required();
  command->add_option("-p,--prompt", o->prompt, "The text to continue");
  command->add_option("-f,--file", o->run.files, "The same from a UTF-8 file; - for standard input")
      ->allow_extra_args(false);
  command->add_option("--ids", o->run.ids, "The same as token ids");
  CLI::Option* chat = command->add_flag(
      "--chat", o->chat,
      "The text is what a user says, and the model's chat template goes around it (ChatML, Llama 3, Mistral, "
      "DeepSeek, Gemma, Phi-3, Phi-4, GLM-4)");
  command->add_option("--system", o->system, "What the system says in place of the template's own text")
      ->needs(chat);
  command->add_flag("--bos,!--no-bos", o->run.bos, "Begin with the model's first-token id (default: no)");
  command->add_option("-n,--tokens", o->tokens, "Tokens to write at most")
      ->check(in_range(int64_t(1), int64_t(1) << 30))
      ->capture_default_str();
  command->add_option("--temperature", o->sampling.temperature, "0: always the likeliest token")
      ->check(in_range(0.0, 1e6))
      ->capture_default_str();
  command->add_option("--top-k", o->sampling.top_k, "Draw among so many of the likeliest; 0: all")
      ->check(in_range(int64_t(0), int64_t(1) << 30))
      ->capture_default_str();
  command->add_option("--top-p", o->sampling.top_p, "Draw among the fewest that have this share together")
      ->check(in_range(1e-9, 1.0))
      ->capture_default_str();
  command->add_option("--seed", o->seed, "Of the draws")->capture_default_str();
  command->add_option("--stop", o->stop, "Stop before this text; may be repeated")->allow_extra_args(false);
  command->add_option(
      "--kv", o->kv,
      "Serve from pages: fp16, or packed as this bit map of calibrate says (--k-method block-gtq, "
      "--v-method tq-mse, --pairs its first budget where they are not given); on a GPU the default "
      "is fp16");
  command->add_option("--map", o->map, "Simulate a cache by this bit map of calibrate, on the CPU");
  CLI::Option* chunk =
      command
          ->add_option(
              "--prefill-chunk", o->prefill_chunk,
              "Prompt tokens that are read together: they attend to each other exactly, and to those "
              "before them as the pages give them back; a prompt of no more attends exactly. Fewer take "
              "less memory")
          ->check(in_range(int64_t(1), int64_t(1) << 22))
          ->capture_default_str();
  add_cache_options(*command, o->caches);
  add_device_options(*command, o->run);
  command->add_option("--json", o->json, "Result as JSON; - for standard output");
  command->add_flag("--force", o->force, "Replace an existing output");
  command->callback([o, chunk, &global] {
    o->chunk_given = chunk->count() > 0;
    Generate(*o, global).run();
  });
}

}  // namespace blockgtq
