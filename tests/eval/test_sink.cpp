// Real keys and values whose first position is an attention sink (tests/golden/make_sink.py): methods that
// are fitted to calibration must not lose there what they win elsewhere.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/float16.h"
#include "catch.h"
#include "eval/attention_error.h"
#include "hf/safetensors.h"
#include "quant/bit_map.h"
#include "quant/linear_quantizer.h"
#include "quant/methods.h"

using namespace blockgtq;

namespace {

constexpr int kGroup = 3, kDim = 64;
constexpr int64_t kTokens = 320, kCalibration = 192;
constexpr double kTheta = 100000;

std::vector<float> load(const std::string& name) {
  const MappedFile file(BLOCKGTQ_SOURCE_DIR "/tests/golden/sink/smollm2.safetensors");
  for (const Tensor& tensor : read_safetensors(file)) {
    if (tensor.name != name) continue;
    std::vector<uint16_t> halves(size_t(tensor.elements()));
    std::memcpy(halves.data(), tensor.data.data(), tensor.data.size());
    std::vector<float> values(halves.size());
    from_half(halves.data(), halves.size(), values.data());
    return values;
  }
  throw std::logic_error("no such tensor: " + name);
}

/// One KV head with its group, and the map that its first tokens give.
struct Head {
  std::vector<float> q, k, v;  // (T, G, D), (T, D), (T, D)
  BitMap map;

  explicit Head(const std::string& layer)
      : q(load(layer + ".q")), k(load(layer + ".k")), v(load(layer + ".v")) {
    Stats stats;
    stats.shape.n_layers = 1;
    stats.shape.n_heads = kGroup;
    stats.shape.n_kv_heads = 1;
    stats.shape.v_dim = kDim;
    stats.shape.layout = {kDim, kDim, Pairing::half};
    for (int i = 0; i < kDim / 2; ++i)
      stats.shape.ropes[0].inv_freq.push_back(std::pow(kTheta, -2.0 * i / kDim));
    stats.shape.ropes[0].inv_freq_raw = stats.shape.ropes[0].inv_freq;
    stats.run_chunks = 1;
    accumulate(stats, 0, 0, kCalibration, q.data(), k.data(), v.data());
    stats.layers[0].output.resize(kDim * kDim);
    for (int i = 0; i < kDim; ++i) stats.layers[0].output[i * kDim + i] = 1;
    map = make_bit_map(stats, {2, 3, 4});
  }

  HeadMap at(double bits) const { return map.head(*map.find(bits), 0, 0); }

  AttentionSums score(const Quantizer* keys, const Quantizer* values) const {
    const auto round_trip = [](const Quantizer* quantizer, std::vector<float> x) {
      if (!quantizer) return x;
      std::vector<uint8_t> codes(quantizer->code_bytes(kTokens));
      quantizer->encode(x.data(), kTokens, codes.data());
      quantizer->decode(codes.data(), kTokens, x.data());
      return x;
    };
    const std::vector<float> k_back = round_trip(keys, k), v_back = round_trip(values, v);
    HeadActivations head{q.data(), k.data(), v.data(), kGroup * kDim, kDim, kDim, kGroup, kDim, kTokens};
    const Restored restored{k_back.data(), v_back.data()};
    return AttentionError(real_attention(map.shape, 0), kTokens).score(head, {&restored, 1})[0][0];
  }
  /// KL of the attention of mean query, in nats.
  double key_error(const Quantizer& keys) const {
    const ChunkSum kl = score(&keys, nullptr).kl;
    return kl.sum / kl.count;
  }
  /// Relative error of the attention's output.
  double value_error(const Quantizer& values) const {
    const ChunkSum output = score(nullptr, &values).output;
    return output.sum / output.count;
  }
};

double length(const float* x, const std::vector<double>& less = std::vector<double>(kDim)) {
  double sum = 0;
  for (int j = 0; j < kDim; ++j) sum += (x[j] - less[j]) * (x[j] - less[j]);
  return std::sqrt(sum);
}

/// The same code for every vector, whatever it looks like.
LinearQuantizer without_fallback(const Quantizer& quantizer) {
  LinearCode code = quantizer.linear_code().value();
  REQUIRE(code.fallback);
  code.fallback = nullptr;
  return LinearQuantizer(code);
}

}  // namespace

TEST_CASE("a sink's key is short, and far from the mean") {
  const Head head(GENERATE("13", "19"));
  const std::vector<double>& mean = head.map.calibration[0].k_mean;
  std::vector<double> lengths, centred;
  for (int64_t t = 0; t < kTokens; ++t) {
    lengths.push_back(length(&head.k[t * kDim]));
    centred.push_back(length(&head.k[t * kDim], mean));
  }
  const double first = lengths[0], first_centred = centred[0];
  std::nth_element(lengths.begin(), lengths.begin() + kTokens / 2, lengths.end());
  std::nth_element(centred.begin(), centred.begin() + kTokens / 2, centred.end());
  CHECK(first < 0.25 * lengths[kTokens / 2]);
  CHECK(first_centred > 2 * centred[kTokens / 2]);
}

TEST_CASE("a code fitted to calibration alone loses to plain TQ-MSE where there is a sink") {
  struct Row {
    const char *layer, *method;
  };
  for (const Row& row : {Row{"13", "block-gtq-cb1"}, Row{"19", "tq-mse-cb"}}) {
    CAPTURE(row.layer, row.method);
    const Head head(row.layer);
    const double plain = head.key_error(*make_key_quantizer("tq-mse", head.at(4)));
    const auto quantizer = make_key_quantizer(row.method, head.at(4));
    CHECK(head.key_error(without_fallback(*quantizer)) > plain);
    CHECK(head.key_error(*quantizer) < 0.1 * plain);
    const auto values = make_value_quantizer("tq-mse-centred", head.at(2));
    const double plain_values = head.value_error(*make_value_quantizer("tq-mse", head.at(2)));
    CHECK(head.value_error(without_fallback(*values)) > 1.2 * plain_values);
    CHECK(head.value_error(*values) < plain_values);
  }
}

TEST_CASE("no method of keys is worse than plain TQ-MSE where there is a sink, or has a floor") {
  const Head head(GENERATE("13", "19"));
  for (const Method& method : key_methods()) {
    if (!method.trellis || std::string(method.name) == "tq-mse") continue;
    std::vector<double> errors;
    for (const double bits : {2.0, 3.0, 4.0}) {
      CAPTURE(method.name, bits);
      const double plain = head.key_error(*make_key_quantizer("tq-mse", head.at(bits)));
      errors.push_back(head.key_error(*make_key_quantizer(method.name, head.at(bits))));
      CHECK(errors.back() < 0.4 * plain);
    }
    CAPTURE(method.name, errors[0], errors[1], errors[2]);
    CHECK(errors[2] < errors[0] / 9);  // 3 per bit
  }
}

TEST_CASE("no method of values is worse than plain TQ-MSE where there is a sink") {
  const Head head(GENERATE("13", "19"));
  for (const Method& method : value_methods()) {
    if (std::string(method.name) == "tq-mse") continue;
    for (const double bits : {2.0, 3.0, 4.0}) {
      CAPTURE(method.name, bits);
      const double plain = head.value_error(*make_value_quantizer("tq-mse", head.at(bits)));
      CHECK(head.value_error(*make_value_quantizer(method.name, head.at(bits))) < 0.95 * plain);
    }
  }
}
