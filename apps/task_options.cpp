#include "task_options.h"

#include "serve/batch.h"

namespace blockgtq {

void add_task_options(CLI::App& command, TaskOptions& o, const std::string& default_tokens) {
  add_cache_options(command, o.caches);
  CLI::Option* chat = command.add_flag("--chat", o.chat,
                                       "The model's chat template goes around every prompt, as in generate");
  command.add_option("--system", o.system, "What the system says in place of the template's own text")
      ->needs(chat);
  command.add_flag(
      "--pages", o.pages,
      "Answer from pages, as generate --kv does: prompts are read exactly, the exact cache holds "
      "fp16, and a GPU is used where there is one; default: simulate every cache, on the CPU");
  command.add_option("--batch", o.batch, "Answers that are written at once, from pages on a GPU")
      ->check(in_range(1, kMostTexts))
      ->capture_default_str();
  command.add_option("--answer-tokens", o.tokens, "Tokens of an answer at most; default: " + default_tokens)
      ->check(in_range(int64_t(1), int64_t(1) << 30));
  command.add_option(
      "-o,--output", o.folder,
      "Folder that keeps every answer as it comes, MODEL.jsonl: run again, only what is missing "
      "is answered");
  add_resume_options(command, o.resume,
                     "Go on with the answers in the folder: auto, never (--force begins them anew), must");
  command.add_option("--json", o.json, "Results as JSON; - for standard output");
  command.add_option("--csv", o.csv, "A row per answer as CSV; - for standard output");
  command.add_option("--md", o.markdown, "The table as Markdown; - for standard output");
  add_html_option(command, o.html);
  command.add_flag("--force", o.force, "Replace existing outputs");
}

void add_task_model_options(CLI::App& command, ModelSetOptions& set) {
  command.add_option("-m,--model", set.run.model, "Model folder, GGUF file or org/name")->required();
  command.add_flag("--bos,!--no-bos", set.run.bos,
                   "Begin every prompt with the model's first-token id (default: no)");
  add_map_options(command, set);
  add_device_options(command, set.run);
}

std::vector<CacheSpec> task_specs(const TaskOptions& o) {
  const CacheOptions& c = o.caches;
  const bool described =
      !(c.k_methods.empty() && c.v_methods.empty() && c.pairs.empty() && c.bits_k.empty() &&
        c.bits_v.empty() && o.set.map.empty() && o.set.calibration.empty() && c.exact == ExactWindow{});
  return described ? cache_specs(c) : std::vector<CacheSpec>();
}

}  // namespace blockgtq
