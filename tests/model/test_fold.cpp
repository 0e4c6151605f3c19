// A folded model computes what the original computes, and its keys and values are as the fold promises.
#include "model/fold.h"

#include <fmt/format.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>

#include "base/expect_error.h"
#include "captured.h"
#include "catch.h"
#include "hf/tokenizer.h"
#include "model/model_shape.h"
#include "model/output_moment.h"
#include "model/weights.h"
#include "quant/centred.h"
#include "worse.h"

// A disk that gives out between two renames: this stands before the C library's own in this program.
namespace {
int renames_until_failure = -1;  // -1: none fails
}
extern "C" int renameat2(int from_folder, const char* from, int to_folder, const char* to,
                         unsigned flags) noexcept {
  if (renames_until_failure >= 0 && renames_until_failure-- == 0) {
    errno = EIO;
    return -1;
  }
  return int(syscall(SYS_renameat2, from_folder, from, to_folder, to, flags));
}

namespace {

using namespace blockgtq;
using namespace blockgtq::test;

constexpr int64_t kTokens = 192, kChunk = 64;

/// The map of the model on some tokens, with its basis of values where asked for.
BitMap calibrate(const Checkpoint& model, const Captured& seen, bool values) {
  Stats stats;
  stats.shape = attention_shape(model.config(), kChunk);
  stats.provenance = {{"weights", model.fingerprint()}};
  stats.layers.resize(size_t(stats.shape.n_layers));
  for (int64_t t = 0; t < kTokens; t += kChunk) stats.chunk_tokens.push_back(kChunk);
  const int64_t dim = stats.shape.layout.head_dim, q_cols = stats.shape.n_heads * dim,
                k_cols = stats.shape.n_kv_heads * dim,
                v_cols = int64_t(stats.shape.n_kv_heads) * stats.shape.v_dim;
  for (int l = 0; l < stats.shape.n_layers; ++l) {
    if (values) stats.layers[l].output = output_moment(layer_weights(model, l).o, stats.shape);
    for (int64_t c = 0; c < kTokens / kChunk; ++c) {
      const int64_t t = c * kChunk;
      accumulate(stats, l, c, kChunk, seen.q[l].data() + t * q_cols, seen.k[l].data() + t * k_cols,
                 v_cols > 0 ? seen.v[l].data() + t * v_cols : nullptr);
    }
  }
  return make_bit_map(stats, {3});
}

Captured forward(const Checkpoint& model) {
  return run_forward(model, some_tokens(kTokens, model.config().vocab), kChunk);
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(double(a[i]) - double(b[i]), 2);
    norm += std::pow(double(a[i]), 2);
  }
  return std::sqrt(difference / norm);
}

/// Folded weights are rounded once to float32, and sums of products come out rounded otherwise: as two
/// float32 passes, some 1e-6 of the norm apart (test_forward.cpp).
constexpr double kApart = 1e-5;

/// The worst block's |Eq / Ekc - 1|, as a multiple of what rounding explains: keys kApart of their norm apart
/// change Ek and mean^2 by 2 kApart Ek each, queries Eq by 2 kApart Eq.
double imbalance(const BitMap& map) {
  double worst = 0;
  for (const HeadCalibration& c : map.calibration) {
    const std::vector<double> ekc = centred_energy(map.shape.layout, c);
    for (size_t b = 0; b < ekc.size(); ++b)
      worst = worse(worst, std::abs(c.q_energy[b] / ekc[b] - 1) / (6 * kApart * c.k_energy[b] / ekc[b]));
  }
  return worst;
}

}  // namespace

TEST_CASE("folded models give the original's logits, with balanced keys and uncorrelated values") {
  for (const std::string name : {"tiny-llama", "tiny-qwen2", "tiny-qwen2-gqa8", "tiny-mistral", "tiny-glm"})
    for (const bool values : {true, false}) {
      INFO(name << (values ? ", with values" : ", keys alone"));
      TempDir dir;
      const Checkpoint model(trained_model(name));
      const Captured before = forward(model);
      const BitMap map = calibrate(model, before, values);
      const Fold fold(model, map);
      CHECK(fold.values() == values);
      write_folded(model, fold, dir / "folded", false);

      const Checkpoint folded(dir / "folded");
      const Captured after = forward(folded);
      const double apart = distance(before.logits, after.logits);
      UNSCOPED_INFO(fmt::format("logits {:.1e} of their norm apart", apart));
      CHECK(apart <= kApart);
      CHECK(distance(before.k[0], after.k[0]) > 0.01);
      CHECK((distance(before.v[0], after.v[0]) > 0.01) == values);

      const BitMap again = calibrate(folded, after, values);
      double spectrum = 0;
      // W_o S^-1 U has orthonormal columns on what W_o sees: the basis of the folded values is the identity
      // but for signs, and its spectrum the map's.
      for (size_t h = 0; values && h < again.calibration.size(); ++h) {
        const std::vector<double>& want = map.calibration[h].v_spectrum;
        for (size_t j = 0; j < want.size(); ++j)
          spectrum = worse(spectrum, std::abs(again.calibration[h].v_spectrum[j] - want[j]) / want[0]);
      }
      const double worst = imbalance(again);
      UNSCOPED_INFO(fmt::format("imbalance {:.1e} of the bound, {:.1e} before; spectrum {:.1e}", worst,
                                imbalance(map), spectrum));
      CHECK(worst <= 1);
      CHECK(imbalance(map) > 100);
      CHECK(spectrum <= 4 * kApart);  // eigenvalues move by no more than the matrix (Weyl), twice 2 kApart
    }
}

TEST_CASE("what is not folded keeps its bytes, and the tokenizer comes along") {
  TempDir dir;
  const fs::path source = trained_model("tiny-llama");
  const Checkpoint model(source);
  const BitMap map = calibrate(model, forward(model), false);
  const Fold fold(model, map);
  write_folded(model, fold, dir / "folded", false);
  const Checkpoint folded(dir / "folded");
  CHECK(folded.tensors().size() == model.tensors().size());
  for (const auto& [name, t] : model.tensors()) {
    INFO(name);
    const Tensor* other = folded.find(name);
    REQUIRE(other);
    CHECK(other->shape == t.shape);
    if (fold.changes(name)) {
      CHECK(other->dtype == DType::f32);
    } else {
      CHECK(other->dtype == t.dtype);
      CHECK(std::ranges::equal(other->data, t.data));
    }
  }
  const bool same_tokenizer = read_text(dir / "folded" / "tokenizer.json", kMaxTokenizerBytes) ==
                              read_text(source / "tokenizer.json", kMaxTokenizerBytes);
  CHECK(same_tokenizer);  // a comparison inside would print them
  CHECK(folded.config().torch_dtype == "float32");
  CHECK(folded.config().head_dim == model.config().head_dim);
}

TEST_CASE("a folded model appears whole or not at all") {
  TempDir dir;
  const Checkpoint model(trained_model("tiny-llama"));
  const BitMap map = calibrate(model, forward(model), false);
  const Fold fold(model, map);
  for (const int nth : {0, 1, 2}) {
    renames_until_failure = nth;
    CHECK_THAT(expect_error(Exit::output, [&] { write_folded(model, fold, dir / "folded", false); }),
               ContainsSubstring("cannot write: "));
    CHECK(renames_until_failure == -1);
    CHECK_FALSE(fs::exists(dir / "folded"));
  }
  write_folded(model, fold, dir / "folded", false);
  CHECK(fs::exists(dir / "folded" / "config.json"));
}

TEST_CASE("models whose weights carry no scale per head are refused by name") {
  const BitMap map;
  for (const auto& [name, why] : {std::pair{"tiny-qwen3", "QK-norm"}, std::pair{"tiny-qwen3-moe", "QK-norm"},
                                  std::pair{"tiny-deepseek2", "latent"}}) {
    const Checkpoint model(trained_model(name));
    const std::string what = expect_error(Exit::input, [&] { Fold(model, map); });
    CHECK_THAT(what, ContainsSubstring(why));
  }
}
