#include "task_model.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/sha256.h"
#include "device.h"
#include "hf/corpus.h"
#include "model/model_shape.h"
#include "model/weights.h"
#include "serve/cuda_sequence.h"
#include "serve/packed_specs.h"
#include "serve/paged_sequence.h"
#include "serve/sequence_batch.h"
#include "serve/simulated_sequence.h"

namespace blockgtq {
namespace {

void require_single_tokens(const TaskCache& held) {
  for (const auto* layers : {&held.cache.keys, &held.cache.values})
    if (!layers->empty() && !layers->at(0).at(0)->per_vector())
      throw Error(
          Exit::usage,
          fmt::format("{}: neighbouring tokens share scales, and here they come one by one", held.name));
}

}  // namespace

TaskModel::TaskModel(const ModelJob& job, const TaskOptions& o, const GlobalOptions& global,
                     Progress& progress)
    : o_(o), global_(global), run_(job.evaluation), name_(job.name), folder_(resolve_model(run_.model)) {
  if (!o.folder.empty()) {
    std::error_code error;
    fs::create_directories(o.folder, error);
    if (error) fail_output("{}: cannot create the folder: {}", o.folder, error.message());
    answers_ = fs::path(o.folder) / (name_ + ".jsonl");
  }
  model_.emplace(folder_);
  const Config& config = model_->config();
  for (const std::string& remark : check_weights(*model_)) progress.warn(remark);
  model_->begin_fingerprint();
  RunOptions run = run_;
  run.without_kernel = !o.pages                ? "a cache that is simulated"
                       : task_specs(o).empty() ? without_sequence(config)
                                               : without_step(config);
  const DeviceChoice choice = choose_device(run, config, global);
  device_ = choice.device;
  paged_ = o.pages && has_pages(config, device_ != "cpu");
  dtype_ = choice.dtype;
  tokenizer_.emplace(open_tokenizer(folder_));
  for (const std::string& warning : tokenizer_->warnings()) progress.warn(warning);
  if (o.chat) chat_ = open_chat_format(folder_);
  if (run_.bos) first_token_ = first_token_id(folder_, config.vocab);
  last_tokens_ = last_token_ids(folder_, config.vocab);
  open_caches(job, progress);
}

/// What a calibration has so far lies beside the answers. Only its sums, whatever caches are made of them.
std::optional<BitMap> TaskModel::open_map(const ModelJob& job, const AttentionShape& shape,
                                          const std::vector<double>& budgets, Progress& progress) {
  if (!answers_.empty() && o_.set.map.empty() && !job.calibration.files.empty()) {
    ResumeOptions options = o_.resume;
    if (options.resume == "must") options.resume = "auto";  // the answers must be there
    calibration_ = open_resume(answers_.string(), options, global_, progress);
  }
  return job_map(job, o_.set, shape, budgets, global_, progress, {calibration_.get(), nullptr});
}

void TaskModel::finish() const {
  if (calibration_) calibration_->remove();
}

void TaskModel::open_caches(const ModelJob& job, Progress& progress) {
  const AttentionShape shape = attention_shape(model_->config(), 1, run_.reference());
  std::vector<CacheSpec> specs =
      specs_of_model(task_specs(o_), shape, name_, !o_.set.panel.empty(), progress);
  std::optional<BitMap> map;
  if (!specs.empty()) map = open_map(job, shape, budgets_of(specs), progress);
  specs = resolve_chosen(specs, map ? &*map : nullptr, progress);
  if (!o_.set.map.empty())
    quantizers_ = "map " + sha256_hex(MappedFile(o_.set.map).text());
  else if (map)
    quantizers_ = fmt::format("calibration {} of {} tokens, {} centres", map->signature,
                              job.calibration.tokens, o_.set.centres);
  caches_.push_back({"exact", {}, {}});
  const Codebook codebook = codebook_of(o_.caches, run_);
  for (const CacheSpec& spec : specs) {
    caches_.push_back({describe(spec), spec, make_cache(spec, shape, map ? &*map : nullptr, codebook)});
    require_single_tokens(caches_.back());
    if (!o_.pages) continue;
    if (!paged_) fail_input("{}: caches a latent, not values per head", folder_.string());
    kv_kind(caches_.back(), shape);  // what pages have no place for ends here
  }
}

std::vector<int32_t> TaskModel::tokens_of(const std::string& text, const std::string& begun,
                                          bool chat) const {
  const bool framed = chat && chat_.has_value();
  const std::string whole =
      (framed ? chat_->prompt(text, o_.system.empty() ? std::nullopt : std::optional(o_.system)) : text) +
      begun;
  const std::vector<int32_t> tokens = tokenizer_->encode(whole);
  std::vector<int32_t> ids;
  // a template may write the first token itself
  if (first_token_ && !(framed && !tokens.empty() && tokens[0] == *first_token_)) ids = {*first_token_};
  ids.insert(ids.end(), tokens.begin(), tokens.end());
  if (ids.empty())
    throw Error(Exit::input, "the prompt has no tokens", "--bos begins it with the model's first token");
  for (const int32_t id : ids)
    if (id >= model_->config().vocab)
      fail_input("{}: the tokenizer gives a token the model does not have: {}, allowed: 0..{}",
                 folder_.string(), id, model_->config().vocab - 1);
  return ids;
}

KvKind TaskModel::kv_kind(const TaskCache& held, const AttentionShape& shape) const {
  if (held.spec.bits == BitPair{}) return {};
  require_whole_pages(held.spec.exact);
  return {packed_specs(held.cache, shape, held.name), held.spec.exact};
}

std::unique_ptr<Batch> TaskModel::make_batch(size_t cache, int64_t context) const {
  const TaskCache& held = caches_.at(cache);
  if (device_ != "cpu") {
    const AttentionShape shape = attention_shape(model_->config(), context);
    return make_cuda_batch(*model_, shape, kv_kind(held, shape),
                           cuda_options(run_, gpu_index(run_.device, global_)), o_.batch, context);
  }
  return make_sequence_batch(1, [this, &held](int64_t most) {
    if (!paged_) return make_simulated_sequence(*model_, held.cache, most);
    const AttentionShape shape = attention_shape(model_->config(), most);
    return make_paged_sequence(*model_, shape, kv_kind(held, shape), most);
  });
}

Json TaskModel::facts() const {
  return {{"blockgtq", BLOCKGTQ_VERSION},
          {"model", name_},
          {"weights", model_->fingerprint()},
          {"tokenizer", tokenizer_->sha256()},
          {"device", device_},
          {"dtype", dtype_},
          {"cache", paged_     ? "pages"
                    : o_.pages ? "exact"
                               : "simulated"},
          {"quantizers", quantizers_},
          {"codebook", blockgtq::name(codebook_of(o_.caches, run_))},
          {"compat", run_.compat.empty() ? "none" : run_.compat},
          {"chat", o_.chat},
          {"system", o_.system},
          {"bos", run_.bos}};
}

}  // namespace blockgtq
