#pragma once
#include <memory>
#include <string>
#include <vector>

#include "base/resume_file.h"
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
  int64_t run_chunks = 0;   // of the whole text
  int64_t n_parts = 1;      // N of --part I/N
  int64_t from = 0;         // the first position of every chunk that statistics count
  AttentionShape shape;     // layout as --compat asks
  std::string facts;        // what the numbers depend on, the weights and the token range left out
  Provenance origin;        // the weights left out
  std::string device;       // "cpu" or "cuda"
  std::unique_ptr<Backend> backend;

  int64_t n_tokens() const { return int64_t(corpus.ids.size()); }
  /// Of everything the numbers depend on, token range left out; and where they come from. Both wait for the
  /// fingerprint of the weights, which is computed while the model runs: best asked for behind that.
  std::string signature() const;
  Provenance provenance() const;
};

/// Opens the model, checks every weight's shape, reads the text, picks the device. Nothing heavy yet.
Session open_session(const RunOptions& run, const GlobalOptions& global, Progress& progress);

/// Empty, or one line: windows of `tokens` reach beyond the positions that the model was made for. What runs
/// a model shows it and runs. The line is the same for all such windows, so that Progress shows it once.
std::string beyond_positions(const Checkpoint& model, int64_t tokens);

/// How the model weighs an error of a layer's values: (H, Dv, Dv) as LayerStats::output has it; empty where
/// values are not cached per head.
std::vector<double> output_moment(const Session& session, int layer);

/// Block statistics of the whole session, streamed: no activation is kept. resume: null, or what keeps them
/// between two layers and goes on with those of an earlier run.
Stats collect_stats(Session& session, Progress& progress, ResumeFile* resume);

/// The same, and calibrate_head() of every layer and KV head (L * H), made of a layer as soon as its
/// statistics are whole: beside the forward pass where that runs on a GPU.
struct Calibration {
  Stats stats;
  std::vector<HeadCalibration> heads;
};
Calibration collect_calibration(Session& session, Progress& progress, int n_centres, ResumeFile* resume);

/// The tokens of a text of n_tokens in these chunks that statistics from position `from` of every chunk on
/// have to do with: all but those of a last chunk that ends before. Exit::usage where every chunk does.
int64_t tokens_from(int64_t from, int64_t n_tokens, int64_t chunk);
/// The signature and the provenance of such statistics, of those that count every position.
std::string signature_from(int64_t from, const std::string& signature);
Provenance provenance_from(int64_t from, Provenance provenance);

}  // namespace blockgtq
