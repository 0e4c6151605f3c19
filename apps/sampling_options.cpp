#include "sampling_options.h"

#include "options.h"

namespace blockgtq {

void add_sampling_options(CLI::App& command, Sampling& sampling) {
  command.add_option("--temperature", sampling.temperature, "0: always the likeliest token")
      ->check(in_range(0.0, 1e6))
      ->capture_default_str();
  command.add_option("--top-k", sampling.top_k, "Draw among so many of the likeliest; 0: all")
      ->check(in_range(int64_t(0), int64_t(1) << 30))
      ->capture_default_str();
  command.add_option("--top-p", sampling.top_p, "Draw among the fewest that have this share together")
      ->check(in_range(1e-9, 1.0))
      ->capture_default_str();
}

}  // namespace blockgtq
