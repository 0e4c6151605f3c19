// Arrays on the device and their double-precision twins, for the tests of kernels/.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "base/float16.h"
#include "catch.h"
#include "kernels/device/device.h"
#include "kernels/device/float_type.h"
#include "worse.h"

namespace blockgtq::test {

/// False, with a word of it, where there is nothing to test on.
inline bool has_device() {
  static const cuda::DeviceReport report = cuda::probe_devices();
  if (report.devices.empty()) WARN("skipped: no CUDA device (" << report.why_none << ")");
  return !report.devices.empty();
}

/// Other numbers every time; a failure shows the seed.
struct Random {
  uint64_t seed = std::random_device()();
  std::mt19937_64 engine{seed};

  std::vector<float> normal(int64_t n, float scale = 1) {
    std::normal_distribution<float> distribution(0, scale);
    std::vector<float> out(static_cast<size_t>(n));
    for (float& x : out) x = distribution(engine);
    return out;
  }
  int64_t below(int64_t n) { return int64_t(engine() % uint64_t(n)); }
};

template <class T>
cuda::Buffer to_device(const std::vector<T>& values, const cuda::Stream& stream) {
  cuda::Buffer out(std::max<size_t>(1, values.size() * sizeof(T)));
  cuda::upload(out.as(), values.data(), values.size() * sizeof(T), stream);
  stream.synchronize();
  return out;
}

/// Fills memory with NaN (or with -1, read as integers): what a kernel does not write shows.
inline void poison(const cuda::Buffer& buffer, int64_t bytes, const cuda::Stream& stream) {
  const std::vector<unsigned char> ones(size_t(bytes), 0xff);
  cuda::upload(buffer.as(), ones.data(), ones.size(), stream);
  stream.synchronize();
}
inline cuda::Buffer poisoned(int64_t bytes, const cuda::Stream& stream) {
  cuda::Buffer out(std::max<int64_t>(1, bytes));
  poison(out, bytes, stream);
  return out;
}

template <class T>
std::vector<T> to_host(const void* data, int64_t n, const cuda::Stream& stream) {
  std::vector<T> out(static_cast<size_t>(n));
  cuda::download(out.data(), data, out.size() * sizeof(T), stream);
  stream.synchronize();
  return out;
}

/// float32 values in an array of `type`, rounded to nearest even.
inline std::vector<unsigned char> encode(const std::vector<float>& values, cuda::FloatType type) {
  std::vector<unsigned char> out(values.size() * size_t(cuda::bytes_of(type)));
  for (size_t i = 0; i < values.size(); ++i) {
    const uint16_t half = type == cuda::FloatType::bf16 ? to_bf16(values[i]) : to_half(values[i]);
    if (type == cuda::FloatType::f32)
      std::memcpy(&out[4 * i], &values[i], 4);
    else
      std::memcpy(&out[2 * i], &half, 2);
  }
  return out;
}

inline std::vector<float> decode(const std::vector<unsigned char>& bytes, cuda::FloatType type) {
  std::vector<float> out(bytes.size() / size_t(cuda::bytes_of(type)));
  for (size_t i = 0; i < out.size(); ++i) {
    uint16_t half = 0;
    if (type == cuda::FloatType::f32) {
      std::memcpy(&out[i], &bytes[4 * i], 4);
    } else {
      std::memcpy(&half, &bytes[2 * i], 2);
      out[i] = type == cuda::FloatType::bf16 ? from_bf16(half) : from_half(half);
    }
  }
  return out;
}

inline std::vector<float> rounded(const std::vector<float>& values, cuda::FloatType type) {
  return decode(encode(values, type), type);
}

/// |got - want| / |want|; NaN where anything is NaN, which no bound accepts.
template <class T, class U>
double distance(const std::vector<T>& got, const std::vector<U>& want) {
  if (got.size() != want.size()) return NAN;
  double difference = 0, norm = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    difference += (double(got[i]) - double(want[i])) * (double(got[i]) - double(want[i]));
    norm += double(want[i]) * double(want[i]);
  }
  return std::sqrt(difference / norm);
}

/// Half a unit in the last place of a value in [1, 2).
inline double half_unit(cuda::FloatType type) {
  return type == cuda::FloatType::f32 ? 0x1p-24 : type == cuda::FloatType::bf16 ? 0x1p-8 : 0x1p-11;
}

inline constexpr cuda::FloatType kFloatTypes[] = {cuda::FloatType::f32, cuda::FloatType::bf16,
                                                  cuda::FloatType::f16};

}  // namespace blockgtq::test
