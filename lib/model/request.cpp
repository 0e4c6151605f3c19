#include "model/request.h"

#include <algorithm>

#include "base/error.h"

namespace blockgtq {

int64_t chunk_tokens(const ForwardRequest& request) {
  const int64_t n = int64_t(request.tokens.size());
  return request.chunk == 0 ? n : std::min(request.chunk, n);
}

void check_request(const Checkpoint& model, const ForwardRequest& request) {
  const Config& c = model.config();
  const std::string name = model.folder().string();
  if (request.tokens.empty()) fail_input("{}: no tokens: 0, at least 1", name);
  if (request.chunk < 0) fail_input("{}: chunk: {}, at least 0", name, request.chunk);
  for (size_t t = 0; t < request.tokens.size(); ++t) {
    if (request.tokens[t] < 0 || request.tokens[t] >= c.vocab)
      fail_input("{}: token {}: id {} is out of range: 0 to {}", name, t, request.tokens[t], c.vocab - 1);
  }
  const int64_t n = int64_t(request.tokens.size());
  check(request.logits_from == 0 || (request.logits_from < n && chunk_tokens(request) == n),
        "logits from a token on: of one window");
  if (const LayerBoundary* start = request.start)
    check(!request.past && start->layer > 0 && start->layer < c.n_layers &&
              int64_t(start->x.size()) == n * c.hidden,
          "a start between two layers");
  if (!request.past) return;
  check(request.chunk == 0 && request.past->n + n <= request.past->context, "a sequence beyond its context");
  const int64_t delta_nets = c.n_layers - int64_t(c.kv_layers().size());
  if (delta_nets > 0)
    fail_input("{}: {} layers are gated delta nets, which keep no state from one token to the next yet", name,
               delta_nets);
}

}  // namespace blockgtq
