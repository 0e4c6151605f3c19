// Hugging Face folders with random bf16 weights of any supported config: the same bytes for the same seed on
// every machine.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/float16.h"
#include "base/parallel.h"
#include "model/weights.h"

namespace blockgtq::test {

struct RandomCheckpoint {
  Json config;
  uint64_t seed = 1;
  double scale = 0.02;                       // standard deviation; norms multiply by what is around 1
  uint64_t shard_bytes = uint64_t(4) << 30;  // a shard holds at least one tensor, however large
};

/// One block of a tensor: sums of four random bytes, which are nearly normal, times scale, plus mean.
inline void fill_random(uint64_t seed, uint64_t tensor, uint64_t block, double scale, float mean,
                        uint16_t* out, size_t n) {
  uint64_t state =
      seed * 0x9e3779b97f4a7c15 ^ (tensor + 1) * 0xbf58476d1ce4e5b9 ^ (block + 1) * 0x94d049bb133111eb;
  const float unit = float(scale / std::sqrt(4 * (256.0 * 256.0 - 1) / 12));
  const auto next = [&state] {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
  };
  for (int i = 0; i < 8; ++i) next();
  uint64_t bits = 0;
  for (size_t i = 0; i < n; ++i) {
    bits = i % 2 == 0 ? next() : bits >> 32;
    const int sum = int(bits & 255) + int(bits >> 8 & 255) + int(bits >> 16 & 255) + int(bits >> 24 & 255);
    out[i] = to_bf16(mean + unit * float(sum - 510));
  }
}

namespace detail {

struct Planned {
  std::string name;
  std::vector<int64_t> shape;
  uint64_t bytes = 0, index = 0;
};

/// norm: the mean of norms' weights.
inline void write_shard(const fs::path& path, const std::vector<Planned>& tensors,
                        const RandomCheckpoint& spec, float norm) {
  Json header = Json::object();
  uint64_t at = 0;
  for (const Planned& t : tensors) {
    header[t.name] = {{"dtype", "BF16"}, {"shape", t.shape}, {"data_offsets", {at, at + t.bytes}}};
    at += t.bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  const uint64_t length = text.size();
  for (int i = 0; i < 8; ++i) file.put(char(length >> (8 * i) & 255));
  file << text;

  constexpr size_t kBlock = size_t(1) << 20, kBlocks = 16;
  size_t largest = 0;
  for (const Planned& t : tensors) largest = std::max(largest, size_t(t.bytes / 2));
  std::vector<uint16_t> buffer(std::min(largest, kBlock * kBlocks));
  for (const Planned& t : tensors) {
    const float mean = t.name.find("norm") != std::string::npos ? norm : 0;
    const size_t n = t.bytes / 2;
    for (size_t first = 0; first < n; first += buffer.size()) {
      const size_t count = std::min(buffer.size(), n - first);
      parallel_for((count + kBlock - 1) / kBlock, [&](size_t b) {
        fill_random(spec.seed, t.index, first / kBlock + b, spec.scale, mean, buffer.data() + b * kBlock,
                    std::min(kBlock, count - b * kBlock));
      });
      file.write(reinterpret_cast<const char*>(buffer.data()), std::streamsize(count * 2));
    }
  }
  file.close();
  if (!file) fail_output("{}: cannot be written", path.string());
}

}  // namespace detail

/// config.json and model.safetensors, or shards with their index where one is not enough.
inline void write_random_checkpoint(const RandomCheckpoint& spec, const fs::path& folder) {
  const Config config = parse_config(spec.config, "config");
  const auto norm = float(1 - config.norm_offset);
  fs::create_directories(folder);
  write_file(folder / "config.json", dump_json(spec.config), true);
  std::vector<std::vector<detail::Planned>> shards(1);
  uint64_t in_shard = 0, total = 0, index = 0;
  for (const auto& [name, shape] : expected_tensors(config)) {
    detail::Planned t{name, shape, 2, index++};
    for (int64_t n : shape) t.bytes *= uint64_t(n);
    if (in_shard > 0 && in_shard + t.bytes > spec.shard_bytes) {
      shards.emplace_back();
      in_shard = 0;
    }
    in_shard += t.bytes;
    total += t.bytes;
    shards.back().push_back(std::move(t));
  }
  if (shards.size() == 1) {
    detail::write_shard(folder / "model.safetensors", shards[0], spec, norm);
    return;
  }
  Json json;
  json["metadata"]["total_size"] = total;
  for (size_t s = 0; s < shards.size(); ++s) {
    const std::string file = fmt::format("model-{:05}-of-{:05}.safetensors", s + 1, shards.size());
    detail::write_shard(folder / file, shards[s], spec, norm);
    for (const detail::Planned& t : shards[s]) json["weight_map"][t.name] = file;
  }
  write_file(folder / "model.safetensors.index.json", dump_json(json), true);
}

}  // namespace blockgtq::test
