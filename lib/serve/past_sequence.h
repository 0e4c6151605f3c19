#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "hf/checkpoint.h"
#include "model/backend.h"
#include "model/past.h"
#include "serve/sequence.h"

namespace blockgtq {

/// The common part of sequences that do not step over pages: a forward pass over a Past, which holds keys and
/// values as the cache decodes them.
class PastSequence : public Sequence {
 public:
  PastSequence(const Checkpoint& model, std::shared_ptr<Backend> backend, int64_t context);
  PlainPositions held(int layer) const override;

 protected:
  /// Bytes of the past's keys, or of its values, in float32.
  int64_t exact_bytes(std::vector<float> Past::Layer::*side) const;
  /// One forward pass over tokens that continue the text. Leaves the logits behind the last of them in
  /// logits_. on_layer may be empty.
  void pass(std::span<const int32_t> tokens, const std::function<void(LayerActivations&)>& on_layer);

  const Checkpoint& model_;
  Past past_;
  std::vector<float> logits_;  // (vocab)

 private:
  const std::shared_ptr<Backend> backend_;
};

}  // namespace blockgtq
