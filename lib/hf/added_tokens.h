#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "hf/bpe.h"
#include "hf/normalizer.h"
#include "hf/token_finder.h"

namespace blockgtq {

inline constexpr size_t kMaxAddedTokenBytes = 4096;
inline constexpr size_t kMaxAddedTokensBytes = 4 << 20;  // of all together

/// An added token that a file other than tokenizer.json names.
struct ExtraToken {
  AddedToken token;
  int64_t id = -1;           // its id in that file; -1: none
  bool only_new = false;     // it is ignored where tokenizer.json has this token, whatever its options
  bool only_new_id = false;  // it is ignored where an added token of tokenizer.json has its id
};

/// The added tokens of a tokenizer, with the ids the `tokenizers` library gives them.
class AddedTokens {
 public:
  AddedTokens(const Json* json, const std::string& where, const std::vector<ExtraToken>& extra,
              const Bpe& model, const Normalizer& normalizer);

  const TokenFinder& raw() const { return raw_; }  // finds them in the text as it is
  const TokenFinder& normalized() const {
    return normalized_;
  }                                                 // finds them in the rest, after normalization
  const AddedToken* find(int32_t id) const;         // null when absent
  int32_t id_of(const std::string& content) const;  // -1 when absent
  /// Tokens of `extra` whose id differs from that in their file: "\"<x>\" is 9 there, 7 here".
  const std::vector<std::string>& conflicts() const { return conflicts_; }
  bool changed_by_extra() const { return changed_by_extra_; }
  template <class F>
  void for_each(F&& f) const {  // f(id, token), by id
    for (const auto& [id, token] : by_id_) f(id, token);
  }
  int32_t last_id() const { return by_id_.empty() ? -1 : by_id_.rbegin()->first; }

 private:
  int32_t add(const AddedToken& token, const std::string& where, const Bpe& model);
  void add_extra(const ExtraToken& extra, const std::string& where, const Bpe& model);
  void make_finders(const std::string& where, const Normalizer& normalizer);

  size_t bytes_ = 0;
  int64_t n_new_ = 0;  // tokens that the model does not have; their ids continue from its size
  bool changed_by_extra_ = false;
  std::vector<std::string> conflicts_;
  std::map<int32_t, AddedToken> by_id_;
  std::map<std::string, int32_t> id_of_;
  TokenFinder raw_, normalized_;
};

}  // namespace blockgtq
