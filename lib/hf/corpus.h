#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/file.h"

namespace blockgtq {

inline constexpr size_t kMaxCorpusBytes = size_t(1) << 30;

/// Which tokens a run sees: the first n of the given texts, tokenized one after the other, or of a list of
/// ids.
struct CorpusSpec {
  std::vector<fs::path> files;  // UTF-8 texts, in order; "-": standard input; pipes are read too
  fs::path ids;                 // or: token ids in decimal, separated by white space
  int64_t n_tokens = 2048;      // 0: all of them
  int64_t skip_tokens = 0;      // leaves out this many first
  bool bos = false;             // every window begins with the model's first-token id
  int64_t window = 0;           // tokens; 0: one window
};

/// The tokens, and where they come from.
struct Corpus {
  std::vector<int32_t> ids;
  std::string sha256;                 // of the files' bytes, in order, of the first kMaxCorpusBytes
  std::string description;            // "wiki.txt" or "a.txt, b.txt"
  std::string tokenizer;              // Tokenizer::sha256(), "none" for token ids
  std::vector<std::string> warnings;  // of the tokenizer; one line each
};

/// The bos id of a model's folder or GGUF file. Exit::input where there is none below vocab.
int32_t first_token_id(const fs::path& model, int vocab);

/// The ids below vocab that end a text, from the same files: one, several, or none.
std::vector<int32_t> last_token_ids(const fs::path& model, int vocab);

/// Reads the tokens that spec names. `model` is the model's folder (tokenizer.json, and
/// generation_config.json or config.json for the bos id) or its GGUF file; ids must be below vocab.
/// With bos the first window is the bos id and the text behind it. In other windows the id replaces their
/// first token, as in llama.cpp's perplexity.
/// Exit::input: a text shorter than asked (found, wanted), invalid UTF-8, an id out of range. Only as much of
/// a long text is tokenized as n_tokens needs. Errors behind that do not matter, nor do more than
/// kMaxCorpusBytes, of which no more is read.
Corpus read_corpus(const CorpusSpec& spec, const fs::path& model, int vocab);

}  // namespace blockgtq
