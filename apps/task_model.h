#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "hf/chat_format.h"
#include "hf/checkpoint.h"
#include "hf/tokenizer.h"
#include "serve/batch.h"
#include "serve/kv_kind.h"
#include "task_options.h"

namespace blockgtq {

/// A way to hold keys and values.
struct TaskCache {
  std::string name;  // "K2V3 block-gtq / tq-mse, sink 4"; "exact"
  CacheSpec spec;    // no bits: exact
  QuantizedCache cache;
};

/// A model that answers, with its tokenizer and the caches that options ask for, the exact one first.
class TaskModel {
 public:
  TaskModel(const ModelJob& job, const TaskOptions& options, const GlobalOptions& global, Progress& progress);

  const std::string& name() const { return name_; }
  const Checkpoint& model() const { return *model_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  const std::vector<int32_t>& last_tokens() const { return last_tokens_; }  // that end a text
  const std::vector<TaskCache>& caches() const { return caches_; }

  /// A prompt's tokens, with the first token where it is asked for; chat: and the chat template around the
  /// text where that is. `begun` is how the answer begins, behind them. Exit::input for no tokens.
  std::vector<int32_t> tokens_of(const std::string& text, const std::string& begun = "",
                                 bool chat = true) const;
  /// Texts of a cache that come to no more than so many tokens: --batch of them side by side on a GPU, one
  /// after the other elsewhere.
  std::unique_ptr<Batch> make_batch(size_t cache, int64_t context) const;

  /// What answers depend on beside their prompts: version, weights, tokenizer, device, cache options.
  Json facts() const;

  /// The file of -o that keeps the answers, in a folder that is there; empty without.
  const fs::path& answers() const { return answers_; }
  /// All is answered: what was calibrated for it is not needed again.
  void finish() const;

 private:
  void open_caches(const ModelJob& job, Progress& progress);
  std::optional<BitMap> open_map(const ModelJob& job, const AttentionShape& shape,
                                 const std::vector<double>& budgets, Progress& progress);
  KvKind kv_kind(const TaskCache& cache, const AttentionShape& shape) const;

  const TaskOptions& o_;
  const GlobalOptions& global_;
  const RunOptions run_;
  bool paged_ = false;  // whether answers come from pages: --pages of a model that has some
  std::string name_, device_, dtype_, quantizers_ = "none";  // quantizers_: what they are made from
  fs::path folder_, answers_;
  std::unique_ptr<ResumeFile> calibration_;  // null: there is none to be kept
  std::optional<Checkpoint> model_;
  std::optional<Tokenizer> tokenizer_;
  std::optional<ChatFormat> chat_;
  std::optional<int32_t> first_token_;
  std::vector<int32_t> last_tokens_;
  std::vector<TaskCache> caches_;
};

}  // namespace blockgtq
