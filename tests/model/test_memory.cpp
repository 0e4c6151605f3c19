// plan_memory() against what the heap really holds: operator new of this program counts.
#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "base/parallel.h"
#include "captured.h"
#include "catch.h"
#include "model/weights.h"

namespace {

std::atomic<int64_t> live{0}, peak{0};

void* count_new(void* p) {
  if (!p) throw std::bad_alloc();
  const int64_t now = live += int64_t(malloc_usable_size(p));
  int64_t before = peak;
  while (now > before && !peak.compare_exchange_weak(before, now)) {
  }
  return p;
}

void count_delete(void* p) {
  if (p) live -= int64_t(malloc_usable_size(p));
  std::free(p);
}

}  // namespace

void* operator new(size_t n) {
  return count_new(std::malloc(n));
}
void* operator new(size_t n, const std::nothrow_t&) noexcept {
  void* p = std::malloc(n);
  return p ? count_new(p) : nullptr;
}
void operator delete(void* p) noexcept {
  count_delete(p);
}
void operator delete(void* p, size_t) noexcept {
  count_delete(p);
}

using namespace blockgtq;
using namespace blockgtq::test;

TEST_CASE("the planned activations are the heap's peak") {
  set_threads(3);
  for (const char* name : {"tiny-llama", "tiny-qwen3-moe", "tiny-deepseek2"}) {
    const Checkpoint model(trained_model(name));
    for (const bool logits : {false, true}) {
      const std::vector<int32_t> tokens = some_tokens(1500);
      ForwardRequest request;
      request.tokens = tokens;
      request.chunk = 500;
      double sum = 0;
      if (logits) request.on_logits = [&](int64_t, int64_t, const float* l) { sum += double(l[0]); };
      const int64_t before = live;
      peak = before;
      make_cpu_backend()->forward(model, request);
      const double measured = double(peak - before);
      const double planned = double(plan_memory(model, 1500, 500, logits).activation_bytes);
      INFO(name << (logits ? " with logits: " : ": ") << measured << " of " << planned << " planned");
      // Within the tiles of three threads (scores and converted weights, some 0.3 MB each) and the weights'
      // names.
      CHECK(measured < planned + 1e6);
      CHECK(measured > 0.8 * planned);
    }
  }
  set_threads(0);
}

TEST_CASE("planned bytes grow as they should") {
  const Checkpoint model(trained_model("tiny-llama"));
  const MemoryPlan plan = plan_memory(model, 256, 0, false);
  int64_t largest = 0;
  for (int l = 0; l < model.config().n_layers; ++l) {
    int64_t bytes = 0;
    const LayerWeights weights = layer_weights(model, l);
    for (const Tensor* t : weights.all()) bytes += int64_t(t->data.size());
    largest = std::max(largest, bytes);
  }
  CHECK(plan.layer_bytes == largest);
  CHECK(plan.layer_bytes < model.weight_bytes());
  CHECK(plan_memory(model, 512, 256, false).activation_bytes > plan.activation_bytes);
  CHECK(plan_memory(model, 256, 256, false).activation_bytes == plan.activation_bytes);
  CHECK(plan_memory(model, 256, 256, true).activation_bytes > plan.activation_bytes);
}
