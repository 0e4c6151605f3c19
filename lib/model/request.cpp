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
}

}  // namespace blockgtq
