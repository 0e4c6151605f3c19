#pragma once

namespace blockgtq {

inline constexpr int kPagePositions = 64;  // tokens of one KV head in a page of a paged cache

}  // namespace blockgtq
