#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "commands.h"
#include "device.h"
#include "resume_options.h"
#include "session.h"
#include "store/acts_file.h"

namespace blockgtq {
namespace {

struct Options {
  RunOptions run;
  OutputOptions output;
  std::string store = "f32";
  ResumeOptions resume;
};

ActsHeader acts_header(const Session& session, const std::string& store) {
  ActsHeader header;
  header.shape = session.shape;
  header.n_tokens = session.n_tokens();
  header.chunk = session.chunk;
  header.type = store == "f32" ? ActsType::f32 : store == "bf16" ? ActsType::bf16 : ActsType::f16;
  header.tokens = session.corpus.ids;
  for (int l = 0; session.shape.v_dim > 0 && l < session.shape.n_layers; ++l)
    header.output.push_back(output_moment(session, l));
  header.signature = session.signature();
  header.provenance = session.provenance();
  return header;
}

/// Writes the activations of a session. What it goes on with lies in two files beside the output: in
/// OUTPUT.resume how far it is, and as OUTPUT.resume.part the unfinished output itself, under a second name.
class Dump {
 public:
  Dump(Session& session, const ActsHeader& header, OutputFile& output, ResumeFile& resume)
      : session_(session),
        header_(header),
        output_(output),
        resume_(resume),
        part_(resume.path().string() + ".part") {
    writer_.emplace(output.temporary(), header);
    if (!resume.state()) return;
    try {
      start_ = take_layers();
    } catch (const Error& e) {
      resume.begin_anew(e);
      writer_.reset();  // lets the file go, before it is begun again
      writer_.emplace(output.temporary(), header);
    }
  }

  void run(Progress& progress) {
    ForwardRequest request;
    request.tokens = session_.corpus.ids;
    request.chunk = session_.chunk;
    request.progress = &progress;
    if (start_.layer > 0) request.start = &start_;
    request.on_layer = [&](LayerActivations& acts) {
      const HostActivations host(acts, session_.shape);
      writer_->write_layer(acts.layer, host.q, host.k, host.v);
    };
    request.on_boundary = [&](int layer, const std::function<std::span<const float>()>& residual) {
      if (resume_.due()) save(layer, residual());
    };
    session_.backend->forward(*session_.model, request);
    writer_->finish();
    output_.commit();
    resume_.remove();
    std::error_code none;
    fs::remove(part_, none);
  }

 private:
  /// What an earlier run wrote, and where it stood.
  LayerBoundary take_layers() {
    const Json& state = *resume_.state();
    LayerBoundary start{state.at("layer"), {}};
    start.x = resume_.array<float>("residual", size_t(session_.n_tokens() * session_.model->config().hidden));
    writer_->take_layers(part_,
                         {state.at("written"), resume_.array<ChunkPlace>("chunks", state.at("chunks"))});
    return start;
  }

  void save(int layer, std::span<const float> residual) {
    try {
      output_.keep_as(part_);
    } catch (const Error& e) {
      return resume_.give_up(e);
    }
    const ActsProgress done = writer_->progress();
    resume_.save({{"layer", layer}, {"written", done.n_layers}, {"chunks", done.chunks.size()}},
                 {{"chunks", done.chunks}, {"residual", residual}});
  }

  Session& session_;
  const ActsHeader& header_;
  OutputFile& output_;
  ResumeFile& resume_;
  fs::path part_;
  std::optional<ActsWriter> writer_;
  LayerBoundary start_;
};

}  // namespace

void add_dump(CLI::App& app, const GlobalOptions& global) {
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("dump", "K, Q and V of every layer before RoPE, to a file");
  add_run_options(*command, o->run, true);
  command->add_option("--store", o->store, "Number format of the file")
      ->check(CLI::IsMember({"f32", "bf16", "f16"}))
      ->capture_default_str();
  add_output_option(*command, o->output, "Activations (ACTS.h5)");
  add_resume_options(*command, o->resume);
  command->callback([o, command, &global] {
    OutputFile output(o->output.path, o->output.force);
    auto progress = global.make_progress();
    Session session = open_session(o->run, global, *progress);
    const std::unique_ptr<ResumeFile> resume = open_resume(o->output.path, o->resume, global, *progress);
    Stages{resume.get(), command}.begin("activations", session);
    const ActsHeader header = acts_header(session, o->store);
    Dump(session, header, output, *resume).run(*progress);
  });
}

}  // namespace blockgtq
