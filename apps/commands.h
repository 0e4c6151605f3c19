#pragma once
#include <CLI/CLI.hpp>

#include "options.h"

namespace blockgtq {

/// Every command lives in its own cmd_*.cpp and registers itself here; its work runs as the subcommand's
/// callback.
void add_inspect(CLI::App& app, const GlobalOptions& global);
void add_tokenize(CLI::App& app, const GlobalOptions& global);
void add_dump(CLI::App& app, const GlobalOptions& global);
void add_energy(CLI::App& app, const GlobalOptions& global);
void add_merge(CLI::App& app, const GlobalOptions& global);
void add_allocate(CLI::App& app, const GlobalOptions& global);
void add_calibrate(CLI::App& app, const GlobalOptions& global);
void add_quantize(CLI::App& app, const GlobalOptions& global);
void add_eval_logits(CLI::App& app, const GlobalOptions& global);
void add_export_bitmap(CLI::App& app, const GlobalOptions& global);
void add_panel(CLI::App& app, const GlobalOptions& global);
void add_perplexity(CLI::App& app, const GlobalOptions& global);
void add_niah(CLI::App& app, const GlobalOptions& global);
void add_longbench(CLI::App& app, const GlobalOptions& global);
void add_aime(CLI::App& app, const GlobalOptions& global);
void add_generate(CLI::App& app, const GlobalOptions& global);
void add_compare(CLI::App& app, const GlobalOptions& global);
void add_correlate(CLI::App& app, const GlobalOptions& global);
void add_bench(CLI::App& app, const GlobalOptions& global);
/// The subcommands of bench that time the packed cache.
void add_bench_cache(CLI::App& bench, const GlobalOptions& global);
void add_bench_decode(CLI::App& bench, const GlobalOptions& global);
void add_plan(CLI::App& app, const GlobalOptions& global);
void add_doctor(CLI::App& app, const GlobalOptions& global);
void add_completion(CLI::App& app, const GlobalOptions& global);
void add_manual(CLI::App& app, const GlobalOptions& global);

}  // namespace blockgtq
