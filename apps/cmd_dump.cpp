#include "base/file.h"
#include "base/stop.h"
#include "commands.h"
#include "device.h"
#include "session.h"
#include "store/acts_file.h"

namespace blockgtq {
namespace {

struct Options {
  RunOptions run;
  OutputOptions output;
  std::string store = "f32";
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
  command->callback([o, &global] {
    OutputFile output(o->output.path, o->output.force);
    auto progress = global.make_progress();
    Session session = open_session(o->run, global, *progress);
    ActsHeader header;
    header.shape = session.shape;
    header.n_tokens = session.n_tokens();
    header.chunk = session.chunk;
    header.type = o->store == "f32" ? ActsType::f32 : o->store == "bf16" ? ActsType::bf16 : ActsType::f16;
    header.tokens = session.corpus.ids;
    for (int l = 0; session.shape.v_dim > 0 && l < session.shape.n_layers; ++l)
      header.output.push_back(output_moment(session, l));
    header.signature = session.signature();
    header.provenance = session.provenance();
    ActsWriter writer(output.temporary(), header);
    ForwardRequest request;
    request.tokens = session.corpus.ids;
    request.chunk = session.chunk;
    request.progress = progress.get();
    request.on_layer = [&](LayerActivations& acts) {
      check_stop();
      const HostActivations host(acts, session.shape);
      writer.write_layer(acts.layer, host.q, host.k, host.v);
    };
    session.backend->forward(*session.model, request);
    writer.finish();
    output.commit();
  });
}

}  // namespace blockgtq
