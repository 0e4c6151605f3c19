#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cache_spec.h"
#include "eval/quantized_cache.h"
#include "hf/chat_format.h"
#include "hf/checkpoint.h"
#include "hf/tokenizer.h"
#include "options.h"
#include "serve/batch.h"
#include "serve/kv_kind.h"
#include "serve/sequence.h"

namespace blockgtq {

/// The model that writes, its cache, and what goes around a prompt.
struct ServeOptions {
  RunOptions run;
  CacheOptions caches;
  std::string kv, map, system;
  int64_t prefill_chunk = kPromptChunk;
  bool chat = false, chunk_given = false;
};
void add_serve_options(CLI::App& command, ServeOptions& options);

/// A model, its tokenizer, and the cache that options ask for: what texts are written with.
class ServedModel {
 public:
  /// Exit::usage for options that exclude each other, before anything is opened.
  ServedModel(const ServeOptions& options, const GlobalOptions& global, Progress& progress);

  const Checkpoint& model() const { return *model_; }
  const fs::path& folder() const { return folder_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  const std::vector<int32_t>& last_tokens() const { return last_tokens_; }  // that end a text
  bool on_gpu() const { return on_gpu_; }
  std::string cache() const;  // "K3V3 block-gtq / tq-mse, pages"
  /// Tokens of a prompt that are read together; 0: all of them.
  int64_t prefill_chunk() const;

  /// A prompt's tokens, with the chat template and the first token where they are asked for. Exit::input for
  /// none, and as require_prompt().
  std::vector<int32_t> tokens_of(const std::string& text);
  /// Exit::input for no tokens, and for ids that the model does not have.
  void require_prompt(const std::vector<int32_t>& ids) const;

  /// A text that may come to so many tokens; texts that may, side by side.
  std::unique_ptr<Sequence> make_sequence(int64_t context) const;
  std::unique_ptr<Batch> make_batch(int slots, int64_t context) const;

 private:
  bool pages_in_fp16() const { return o_.kv == "fp16"; }
  bool pages() const { return !o_.kv.empty(); }
  bool packed() const { return pages() && !pages_in_fp16(); }
  bool paged() const { return packed() || (has_pages_ && (pages() || on_gpu_)); }
  CacheSpec spec_of_map(const BitMap& map) const;
  void open_cache(Progress& progress);
  KvKind kv_kind(const AttentionShape& shape) const;

  const ServeOptions& o_;
  const GlobalOptions& global_;
  std::optional<CacheSpec> spec_;  // none: exact
  fs::path folder_;
  std::optional<Checkpoint> model_;
  std::optional<Tokenizer> tokenizer_;
  std::optional<ChatFormat> chat_;
  std::vector<int32_t> last_tokens_;
  bool on_gpu_ = false, has_pages_ = true;
  QuantizedCache cache_;  // empty: exact
};

}  // namespace blockgtq
