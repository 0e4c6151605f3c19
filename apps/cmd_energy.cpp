#include "activations.h"
#include "base/error.h"
#include "base/file.h"
#include "base/stop.h"
#include "commands.h"
#include "resume_options.h"
#include "session.h"
#include "stats_resume.h"
#include "store/stats_file.h"

namespace blockgtq {
namespace {

struct Options {
  std::string activations;
  RunOptions run;
  OutputOptions output;
  ResumeOptions resume;
};

/// Statistics of a dump: the same sums, in the same order, as the streamed pass.
Stats stats_of_dump(const Activations& reader, int64_t from, Progress& progress, ResumeFile& resume) {
  const ActsHeader& header = reader.header();
  const AttentionShape& shape = header.shape;
  const int64_t chunk = header.chunk == 0 ? header.n_tokens : header.chunk, dim = shape.layout.head_dim;
  const int64_t n_tokens = tokens_from(from, header.n_tokens, chunk);
  Stats stats;
  stats.shape = shape;
  stats.signature = signature_from(from, header.signature);
  stats.provenance = provenance_from(from, header.provenance);
  stats.layers.resize(shape.n_layers);
  for (size_t l = 0; l < header.output.size(); ++l) stats.layers[l].output = header.output[l];
  for (int64_t t = 0; t < n_tokens; t += chunk)
    stats.chunk_tokens.push_back(std::min(chunk, n_tokens - t) - from);
  stats.run_chunks = stats.n_chunks();
  stats.n_parts = 1;
  const int first = load_stats(resume, stats, 0).layer;
  progress.begin("energy", shape.n_layers - first);
  for (int l = first; l < shape.n_layers; ++l) {
    if (resume.due()) save_stats(resume, stats, l, {});
    check_stop();
    const ActsReader::Layer acts = reader.read_layer(l);
    for (int64_t c = 0; c < stats.n_chunks(); ++c)
      accumulate(stats, l, c, stats.chunk_tokens[c] + from, acts.q.data() + c * chunk * shape.n_heads * dim,
                 acts.k.data() + c * chunk * shape.n_kv_heads * dim,
                 acts.v.empty() ? nullptr : acts.v.data() + c * chunk * shape.n_kv_heads * shape.v_dim, from);
    progress.step(fmt::format("layer {}", l));
  }
  progress.end();
  return stats;
}

}  // namespace

void add_energy(CLI::App& app, const GlobalOptions& global) {
  auto o = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("energy", "Mergeable block statistics of a dump, or of a model and a text");
  command->add_option("activations", o->activations, "ACTS.h5 of dump, or safetensors; or give -m and -f");
  add_run_options(*command, o->run, false);
  add_calibrate_from(*command, o->run.calibrate_from);
  command->add_option("--part", o->run.part, "I/N: only the I-th of N ranges of chunks, to be merged");
  add_output_option(*command, o->output, "Statistics (STATS.h5)");
  add_resume_options(*command, o->resume);
  command->callback([o, command, &global] {
    if (o->activations.empty() == o->run.model.empty())
      throw Error(Exit::usage, o->activations.empty()
                                   ? "an input is missing: give ACTS.h5, or -m MODEL and -f TEXT"
                                   : "ACTS.h5 and -m exclude each other");
    OutputFile output(o->output.path, o->output.force);
    auto progress = global.make_progress();
    const std::unique_ptr<ResumeFile> resume = open_resume(o->output.path, o->resume, global, *progress);
    if (!o->activations.empty()) {
      const std::unique_ptr<Activations> reader = open_activations(o->activations);
      resume->begin("statistics", [&] { return option_fields(*command); });
      write_stats(output.temporary(), stats_of_dump(*reader, o->run.calibrate_from, *progress, *resume));
    } else {
      Session session = open_session(o->run, global, *progress);
      ResumeFile* kept = Stages{resume.get(), command}.begin("statistics", session);
      write_stats(output.temporary(), collect_stats(session, *progress, kept));
    }
    output.commit();
    resume->remove();
  });
}

}  // namespace blockgtq
