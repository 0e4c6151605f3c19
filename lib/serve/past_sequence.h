#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "hf/checkpoint.h"
#include "model/backend.h"
#include "model/past.h"
#include "serve/sequence.h"

namespace blockgtq {

/// What sequences have in common that are no steps over pages: the forward pass over a Past, which holds what
/// the cache gives back.
class PastSequence : public Sequence {
 public:
  PastSequence(const Checkpoint& model, std::shared_ptr<Backend> backend, int64_t context);
  PlainPositions held(int layer) const override;

 protected:
  /// Bytes of the past's keys, or of its values.
  int64_t exact_bytes(std::vector<float> Past::Layer::*side) const;
  /// One forward pass over tokens that go on with the text; on_layer may be empty. Leaves the logits behind
  /// the last of them.
  void pass(std::span<const int32_t> tokens, const std::function<void(LayerActivations&)>& on_layer);

  const Checkpoint& model_;
  Past past_;
  std::vector<float> logits_;  // (vocab)

 private:
  const std::shared_ptr<Backend> backend_;
};

}  // namespace blockgtq
