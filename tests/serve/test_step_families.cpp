// Steps and prompts on a GPU of what is out of the ordinary: random checkpoints of the families with experts,
// sliding windows, softcaps, learned sinks, norms of other forms and in other places.
#ifdef BLOCKGTQ_CUDA
#include "chunked_prompts.h"
#include "over_pages.h"
#include "plain_cache.h"
#include "serve/paged_sequence.h"
#include "tools/random_checkpoint.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

struct Family {
  const char* name;
  Json changes;
};

/// Heads that pages have kernels for, and attention scaled as released models scale theirs (the configs' own
/// scales are of heads of 8 and 12: logits three times as large, and with them what fp16 leaves of queries);
/// windows that end within a page, and within a part of one.
const Family kFamilies[] = {
    {"mixtral", {{"intermediate_size", 96}}},
    {"mixtral-window", {{"intermediate_size", 96}, {"sliding_window", 40}}},
    {"qwen2_moe", {{"moe_intermediate_size", 96}, {"shared_expert_intermediate_size", 168}}},
    {"qwen3_moe-window", {{"head_dim", 128}, {"moe_intermediate_size", 96}, {"sliding_window", 70}}},
    {"glm4_moe", {{"head_dim", 64}, {"moe_intermediate_size", 96}}},
    {"ernie4_5_moe", {{"moe_intermediate_size", 96}}},
    {"granitemoe", {{"intermediate_size", 96}, {"attention_multiplier", 0.125}}},
    {"minimax_m2", {{"head_dim", 64}, {"intermediate_size", 96}}},
    {"gpt_oss", {{"head_dim", 64}, {"intermediate_size", 96}, {"sliding_window", 40}, {"swiglu_limit", 0.5}}},
    {"gemma2", {{"head_dim", 64}, {"sliding_window", 33}}},
    {"gemma3_text", {{"head_dim", 128}, {"query_pre_attn_scalar", 128}, {"sliding_window", 64}}},
    {"cohere2", {{"head_dim", 64}, {"sliding_window", 100}}},
    {"starcoder2", {{"sliding_window", 31}}},
    {"olmo2", Json::object()},
    {"olmo3", {{"sliding_window", 65}}},
    {"exaone4", {{"sliding_window", 50}}},
    {"glm4", {{"head_dim", 64}}},
    {"mistral-window", {{"head_dim", 64}, {"sliding_window", 17}}},
    {"qwen3-window", {{"head_dim", 64}, {"sliding_window", 129}}},
    {"smollm3", Json::object()},
    {"granite", {{"attention_multiplier", 0.125}}},
};

void make_checkpoint(const Family& family, const fs::path& folder) {
  RandomCheckpoint spec;
  spec.config = read_json(
      fs::path(BLOCKGTQ_SOURCE_DIR) / "tests/golden/families" / family.name / "config.json", kMaxConfigBytes);
  spec.config.update({{"hidden_size", 256}, {"vocab_size", 512}, {"max_position_embeddings", 512}});
  spec.config.update({{"intermediate_size", 160}});
  spec.config.update(family.changes);
  spec.scale = 0.08;  // 1 / sqrt(hidden) and some: activations of the size of one
  write_random_checkpoint(spec, folder);
}

}  // namespace

TEST_CASE("families that steps serve are named", "[sequence][families]") {
  for (const Family& family : kFamilies) {
    INFO(family.name);
    const TempDir folder;
    make_checkpoint(family, folder.path());
    CHECK(without_step(Checkpoint(folder.path()).config()) == "");
  }
}

TEST_CASE("families' steps over pages are the CPU's over the same", "[sequence][families][gpu]") {
  if (!has_device()) return;
  const std::vector<int32_t> tokens = some_tokens(330, 512);
  for (const Family& family : kFamilies) {
    INFO(family.name);
    const TempDir folder;
    make_checkpoint(family, folder.path());
    const Checkpoint model(folder.path());
    const AttentionShape shape = attention_shape(model.config(), 1);
    for (const std::string keys : {"", "tq-mse", "block-gtq"})
      for (const ExactWindow exact : {ExactWindow{}, ExactWindow{64, 100}, ExactWindow{64, 0}}) {
        if (keys.empty() && exact != ExactWindow{}) continue;
        INFO(keys << " " << exact.sink << " " << exact.recent);
        KvKind kind;
        kind.exact = exact;
        if (!keys.empty()) kind.packed = packed_specs(plain_cache(shape, 3, keys), shape, keys);
        for (const size_t prompt : {size_t(1), size_t(190)}) {
          CAPTURE(prompt);
          const auto sequence = make_cuda_sequence(model, shape, kind, fp32(), 330);
          check_over_pages(model, *sequence, tokens, prompt, 140, 2e-3);
        }
      }
  }
}

TEST_CASE("families' prompts, in chunks of any size", "[sequence][families][gpu]") {
  if (!has_device()) return;
  const std::vector<PromptKind> kinds = {
      {"", 0, 1e-3, {}}, {"block-gtq", 3, 0.03, {64, 100}}, {"tq-mse", 2, 0.05, {64, 64}}};
  for (const Family& family : kFamilies) {
    INFO(family.name);
    const TempDir folder;
    make_checkpoint(family, folder.path());
    check_prompts(Checkpoint(folder.path()), kinds, {64, 100, 2048}, {1, 65, 230});
  }
}

TEST_CASE("families' texts in fp16 pages are those of the CPU's pages", "[sequence][families][gpu]") {
  if (!has_device()) return;
  const std::vector<int32_t> tokens = some_tokens(260, 512);
  for (const Family& family : kFamilies) {
    INFO(family.name);
    const TempDir folder;
    make_checkpoint(family, folder.path());
    const Checkpoint model(folder.path());
    if (model.config().moe.n_experts > 0) continue;  // a token that goes elsewhere is seen by all after it
    const AttentionShape shape = attention_shape(model.config(), 1);
    const auto twin = make_paged_sequence(model, shape, {}, 260),
               sequence = make_cuda_sequence(model, shape, {}, fp32(), 260);
    twin->append(std::span(tokens).first(150));
    sequence->append(std::span(tokens).first(150));
    double worst = 0;
    for (size_t t = 150; t < tokens.size(); ++t) {
      const std::span<const float> want = twin->append({&tokens[t], 1});
      worst = std::max(worst, relative_distance(sequence->append({&tokens[t], 1}), want));
    }
    CHECK(worst < 2e-3);
  }
}
#endif
