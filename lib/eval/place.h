#pragma once
#include <string>

#include "base/error.h"

namespace blockgtq {

/// Runs `body`. An Error that it throws is thrown again with "PLACE: " in front of its message.
template <class Body>
void at_place(const std::string& place, const Body& body) {
  try {
    body();
  } catch (const Error& e) {
    throw Error(e.code, place + ": " + e.what(), e.hint);
  }
}
template <class Body>
void at_layer(int layer, const Body& body) {
  at_place(fmt::format("layer {}", layer), body);
}
template <class Body>
void at_head(int kv_head, const Body& body) {
  at_place(fmt::format("KV head {}", kv_head), body);
}

}  // namespace blockgtq
