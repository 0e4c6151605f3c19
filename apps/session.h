#pragma once
#include <memory>
#include <string>

#include "eval/metrics.h"
#include "hf/corpus.h"
#include "model/backend.h"
#include "options.h"
#include "quant/bit_map.h"
#include "quant/stats.h"

namespace blockgtq {

/// A model and the text it is about to see: what dump, energy, calibrate, eval-logits and panel begin with.
struct Session {
  std::unique_ptr<Checkpoint> model;
  Corpus corpus;            // the tokens of this run's chunks only
  int64_t chunk = 0;        // tokens; at least 1
  int64_t first_chunk = 0;  // absolute number of the first chunk of this run
  AttentionShape shape;     // layout as --compat asks
  std::string signature;    // of everything the numbers depend on, token range left out
  Provenance provenance;
  std::string device;  // "cpu" or "cuda"
  std::unique_ptr<Backend> backend;

  int64_t n_tokens() const { return int64_t(corpus.ids.size()); }
};

/// Opens the model, checks every weight's shape, reads the text, picks the device. Nothing heavy yet.
Session open_session(const RunOptions& run, const GlobalOptions& global, Progress& progress);

/// Of every layer, how the model weighs an error of a value: (H, Dv, Dv) as LayerStats::output has it; empty
/// where values are not cached per head.
std::vector<std::vector<double>> output_moments(const Session& session);

/// Block statistics of the whole session, streamed: no activation is kept.
Stats collect_stats(Session& session, Progress& progress);

}  // namespace blockgtq
