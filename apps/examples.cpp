#include "examples.h"

#include <map>

namespace blockgtq {
namespace {

const std::map<std::string, std::vector<Example>> kExamples = {
    {"blockgtq",
     {{"blockgtq inspect MODEL", "Is the model supported, and what does a run take?"},
      {"blockgtq calibrate -m MODEL -f calibration.txt --bits 2,3 -o map.h5",
       "Learn from a text which blocks of the keys need more bits"},
      {"blockgtq eval-logits -m MODEL -f evaluation.txt --map map.h5",
       "The error of attention logits on another text, against plain TurboQuant"},
      {"blockgtq perplexity -m MODEL -f evaluation.txt --map map.h5 --k-method tq-mse,block-gtq --pairs "
       "K2,K3",
       "What that does to the next token"}}},
    {"blockgtq inspect",
     {{"blockgtq inspect MODEL --tokens 16384 --chunk 512",
       "A model: verdict, heads, RoPE, memory and time of a run"},
      {"blockgtq inspect map.h5 --bits 3 --color always | less -R",
       "A bit map as a heat map: a line per two heads, a column per block"},
      {"blockgtq inspect MODEL --json -", "The same as JSON"}}},
    {"blockgtq tokenize",
     {{"blockgtq tokenize -m MODEL -f text.txt --tokens 2048 > ids.txt", "The first 2048 ids of a text"},
      {"echo 'Hello' | blockgtq tokenize -m MODEL -f -", "Of standard input"}}},
    {"blockgtq dump",
     {{"blockgtq dump -m MODEL -f calibration.txt --tokens 2048 -o acts.h5", "Activations in float32"},
      {"blockgtq dump -m MODEL -f calibration.txt --store bf16 -o acts.h5", "Half of the disk"}}},
    {"blockgtq energy",
     {{"blockgtq energy acts.h5 -o stats.h5", "Of a dump"},
      {"blockgtq energy -m MODEL -f calibration.txt --tokens 16384 -o stats.h5", "Of a model and a text"},
      {"blockgtq energy -m MODEL -f calibration.txt --tokens 16384 --part 1/4 -o part1.h5",
       "The first of four parts, for merge"}}},
    {"blockgtq merge",
     {{"blockgtq merge part1.h5 part2.h5 part3.h5 part4.h5 -o stats.h5", "All parts of a run"},
      {"blockgtq merge part1.h5 part2.h5 --partial -o half.h5", "Some of them first"}}},
    {"blockgtq allocate",
     {{"blockgtq allocate stats.h5 --bits 2,3,4 -o map.h5", "Three budgets in one map"},
      {"blockgtq allocate stats.h5 --allocator exact --cost packed --bits 3 -o map.h5",
       "The optimum, with norms and padding counted"},
      {"blockgtq allocate stats.h5 --context 131072 --budget-memory 2GiB -o map.h5",
       "As many bits as the keys of 128 K tokens may take"}}},
    {"blockgtq calibrate",
     {{"blockgtq calibrate -m MODEL -f calibration.txt --bits 2,3 -o map.h5", "A bit map for two budgets"},
      {"blockgtq calibrate -m MODEL -f calibration.txt --bits 3 --choose -o map.h5",
       "And which method to take, measured on the text behind"}}},
    {"blockgtq quantize",
     {{"blockgtq quantize acts.h5 --map map.h5 --bits 3 -o packed.h5", "By the map's own method"},
      {"blockgtq quantize acts.h5 --map map.h5 --bits 3 --method tq-mse -o plain.h5", "By another"}}},
    {"blockgtq eval-logits",
     {{"blockgtq eval-logits -m MODEL -f evaluation.txt --map map.h5", "All budgets of the map"},
      {"blockgtq eval-logits --activations acts.h5 --map map.h5 --bits 3 --metrics all --json eval.json",
       "Of a dump, with four more metrics"},
      {"blockgtq eval-logits -m MODEL -f evaluation.txt --map map.h5 --html eval.html", "As a page"}}},
    {"blockgtq export-bitmap",
     {{"blockgtq export-bitmap map.h5 --bits 3 -o map.png", "A picture"},
      {"blockgtq export-bitmap map.h5 --bits 3 --format json -o - | head", "JSON on standard output"},
      {"blockgtq export-bitmap map.h5 --bits 3 --format llama-ctk --verify -o options.txt",
       "Options of an engine, and what they lose"},
      {"blockgtq export-bitmap map.h5 --fold MODEL -o folded",
       "The model again, with the map in its weights"}}},
    {"blockgtq panel",
     {{"blockgtq panel data/panel.json -o report", "Ten small models: report/index.html"},
      {"blockgtq panel data/panel.json --bits 2,3 --metrics all -o report", "Other budgets, more metrics"}}},
    {"blockgtq perplexity",
     {{"blockgtq perplexity -m MODEL -f evaluation.txt", "Of the model alone"},
      {"blockgtq perplexity -m MODEL -f evaluation.txt --map map.h5 --k-method tq-mse,block-gtq "
       "--v-method tq-mse --pairs K2V2,K3V3",
       "Under four caches"},
      {"blockgtq perplexity -m MODEL -f evaluation.txt --map map.h5 --k-method block-gtq --pairs K3 "
       "--fail-if 'kl>0.1'",
       "As a gate: exit code 7 where the cache is that bad"}}},
    {"blockgtq niah",
     {{"blockgtq niah -m MODEL -f evaluation.txt --map map.h5 --k-method block-gtq --pairs K2,K3 "
       "--context 512,2048",
       "Numbers hidden in the text, read in one pass"},
      {"blockgtq niah -m MODEL --chat --task single-1 --context 1024 --answer-tokens 32 -o answers --map "
       "map.h5 "
       "--k-method tq-mse --v-method tq-mse --pairs K2V2",
       "A task of RULER; a killed run goes on in the folder"}}},
    {"blockgtq longbench",
     {{"blockgtq longbench -m MODEL --chat --data LongBench --task qasper --limit 20 -o answers --map "
       "map.h5 "
       "--k-method block-gtq --v-method tq-mse --pairs K3V3",
       "Twenty questions of one task"}}},
    {"blockgtq aime",
     {{"blockgtq aime -m MODEL --chat --data aime.jsonl --samples 4 -o answers --map map.h5 --k-method "
       "block-gtq "
       "--v-method tq-mse --pairs K3V3",
       "Four answers to every problem"}}},
    {"blockgtq generate",
     {{"blockgtq generate -m MODEL --chat -p 'What is a cache?' -n 100", "With an exact cache"},
      {"blockgtq generate -m MODEL -f prompt.txt --kv map.h5 --pairs K3V3", "From packed pages"},
      {"blockgtq generate -m MODEL --prompts prompts.jsonl --kv fp16 -o answers.jsonl", "Many texts"}}},
    {"blockgtq compare",
     {{"blockgtq compare eval2.json eval.json --fail-if 'mae>1.05'",
       "Two evaluations; exit code 7 where the second is that much worse"},
      {"blockgtq compare map2.h5 map.h5", "How many bits differ between two maps"}}},
    {"blockgtq correlate",
     {{"blockgtq correlate eval.json --with perplexity.json --against kl_mean",
       "Which metric of eval-logits goes with the KL?"}}},
    {"blockgtq plan",
     {{"blockgtq plan --shape llama-3.1-8b --context 32k,128k --batch 1,8 --memory 80GB",
       "Which caches fit, and how far they reach"},
      {"blockgtq plan -m MODEL --kv fp16,K3V3 --bandwidth 4.8TB",
       "Of a model; with the least time of a step at this memory rate"}}},
    {"blockgtq bench diagnostics",
     {{"blockgtq bench diagnostics --heads 16 --kv-heads 2 --tokens 2048", "Of Qwen2.5-3B's heads"}}},
    {"blockgtq bench attention",
     {{"blockgtq bench attention --context 4k,128k --bits K3V3,K2V2", "Two widths, two lengths"},
      {"blockgtq bench attention --keys trellis --sink 64 --recent 128",
       "Trellis codes, with exact positions beside"}}},
    {"blockgtq bench prefill",
     {{"blockgtq bench prefill --context 32k --chunk 512,2048", "Chunks of a prompt"}}},
    {"blockgtq bench encode", {{"blockgtq bench encode --tokens 8192 --values", "Keys and values"}}},
    {"blockgtq bench decode",
     {{"blockgtq bench decode --shape qwen2.5-3b --context 4k,128k --batch 1,8 --kv fp16,K3V3",
       "A whole step, with the longest context that fits"},
      {"blockgtq bench decode -m MODEL --prefill --json decode.json", "Of a model; reading prompts, too"}}},
    {"blockgtq doctor", {{"blockgtq doctor", "To be shown with every question"}}},
    {"blockgtq completion",
     {{"source <(blockgtq completion bash)", "In this shell"},
      {"blockgtq completion fish > ~/.config/fish/completions/blockgtq.fish", "For good"}}},
};

}  // namespace

std::vector<Example> examples_of(const std::string& command) {
  const auto found = kExamples.find(command);
  return found == kExamples.end() ? std::vector<Example>() : found->second;
}

}  // namespace blockgtq
