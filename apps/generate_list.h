#pragma once
#include <cstdint>
#include <string>

#include "eval/sampler.h"
#include "options.h"
#include "served_model.h"
#include "written_text.h"

namespace blockgtq {

/// How texts are written, where a line of a list does not say otherwise.
struct WriteOptions {
  Sampling sampling;
  int64_t tokens = 128;
  uint64_t seed = 42;
  std::vector<std::string> stop;
};

struct ListOptions {
  std::string prompts, output;  // files; output empty: standard output
  int batch = 8;                // texts at once, at most
  bool force = false;
};

/// Continues every prompt of a list, several texts at a time: where one ends the next begins. Leaves a line
/// of JSON for each, in the list's order. What is wrong with a prompt is found before any text begins.
void generate_list(const ListOptions& list, const WriteOptions& write, const ServeOptions& serve,
                   const GlobalOptions& global);

}  // namespace blockgtq
