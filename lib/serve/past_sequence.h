#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "hf/checkpoint.h"
#include "model/backend.h"
#include "model/past.h"
#include "serve/sequence.h"

namespace blockgtq {

/// What sequences on the CPU have in common: the decoder over a Past, which holds what the cache gives back.
class PastSequence : public Sequence {
 public:
  PastSequence(const Checkpoint& model, int64_t context);
  PlainPositions held(int layer) const override;

 protected:
  /// One forward pass over tokens that go on with the text; on_layer may be empty. Leaves the logits behind
  /// the last of them.
  void pass(std::span<const int32_t> tokens, const std::function<void(LayerActivations&)>& on_layer);

  const Checkpoint& model_;
  Past past_;
  std::vector<float> logits_;  // (vocab)

 private:
  const std::unique_ptr<Backend> backend_;
};

}  // namespace blockgtq
