#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/file.h"

namespace blockgtq {

inline constexpr size_t kMaxCorpusBytes = size_t(1) << 30;

/// The tokens a run sees: the first n of the named texts, tokenized one after the other, or of a list of ids.
struct CorpusSpec {
  std::vector<fs::path> files;  // UTF-8 texts, in order; "-": standard input; a pipe is read as well
  fs::path ids;                 // or: token ids in decimal, separated by white space
  int64_t n_tokens = 2048;      // 0: all of them
  int64_t skip_tokens = 0;      // leave out this many first
  bool bos = false;             // the first token of every window is the model's first-token id
  int64_t window = 0;           // tokens; 0: one window
};

struct Corpus {
  std::vector<int32_t> ids;
  std::string sha256;                 // of the files' bytes, in order, of the first kMaxCorpusBytes
  std::string description;            // "wiki.txt" or "a.txt, b.txt"
  std::string tokenizer;              // Tokenizer::sha256(), "none" for token ids
  std::vector<std::string> warnings;  // of the tokenizer; one line each
};

/// The bos id of a model's folder or GGUF file; Exit::input where there is none below vocab.
int32_t first_token_id(const fs::path& model, int vocab);

/// The ids below vocab that end a text, of the same files: one, a list, or none.
std::vector<int32_t> last_token_ids(const fs::path& model, int vocab);

/// `model` is the model's folder (tokenizer.json, and generation_config.json or config.json for the bos id)
/// or its GGUF file; vocab bounds the ids. Exit::input: text shorter than asked (found, wanted), invalid
/// UTF-8, id out of range. Only as much of a long text is tokenized as n_tokens needs, and what is wrong
/// behind it does not matter: bytes that are not UTF-8, an id out of range, more than kMaxCorpusBytes, of
/// which no more is read. With bos the first window is the id and the text behind it; in the others it takes
/// the place of their first token, as in llama.cpp's perplexity.
Corpus read_corpus(const CorpusSpec& spec, const fs::path& model, int vocab);

}  // namespace blockgtq
