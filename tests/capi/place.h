// Memory where pages lie: on the host, or on a GPU.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "catch.h"
#ifdef BLOCKGTQ_CUDA
#include "kernels/device/device.h"
#endif

namespace blockgtq::test {

/// Bytes with one owner, 128-byte aligned. A new one is full of 0xff: NaN, or -1.
class Memory {
 public:
  virtual ~Memory() = default;
  virtual void* data() const = 0;
  virtual void put(const void* from, size_t bytes) = 0;
  virtual void get(void* to, size_t bytes) const = 0;
  template <class T = void>
  T* as() const {
    return static_cast<T*>(data());
  }
};

class HostMemory final : public Memory {
 public:
  explicit HostMemory(size_t bytes) : data_(std::aligned_alloc(128, (bytes + 128) / 128 * 128), std::free) {
    std::memset(data_.get(), 0xff, bytes);
  }
  void* data() const override { return data_.get(); }
  void put(const void* from, size_t bytes) override { std::memcpy(data_.get(), from, bytes); }
  void get(void* to, size_t bytes) const override { std::memcpy(to, data_.get(), bytes); }

 private:
  std::unique_ptr<void, void (*)(void*)> data_;
};

#ifdef BLOCKGTQ_CUDA
class DeviceMemory final : public Memory {
 public:
  DeviceMemory(size_t bytes, const cuda::Stream& stream) : buffer_(bytes + 1), stream_(stream) {
    const std::vector<uint8_t> ones(bytes, 0xff);
    put(ones.data(), bytes);
  }
  void* data() const override { return buffer_.as(); }
  void put(const void* from, size_t bytes) override {
    cuda::upload(buffer_.as(), from, bytes, stream_);
    stream_.synchronize();
  }
  void get(void* to, size_t bytes) const override {
    cuda::download(to, buffer_.as(), bytes, stream_);
    stream_.synchronize();
  }

 private:
  cuda::Buffer buffer_;
  const cuda::Stream& stream_;
};
#endif

/// "cpu", or "cuda:0" where there is one.
class Place {
 public:
  explicit Place(const std::string& device) : device_(device) {
#ifdef BLOCKGTQ_CUDA
    if (on_gpu()) stream_ = std::make_unique<cuda::Stream>();
#endif
  }
  const std::string& device() const {
    return device_;
  }
  bool on_gpu() const {
    return device_ != "cpu";
  }
  void* stream() const {
#ifdef BLOCKGTQ_CUDA
    if (on_gpu()) return stream_->handle();
#endif
    return nullptr;
  }
  std::unique_ptr<Memory> memory(size_t bytes) const {
#ifdef BLOCKGTQ_CUDA
    if (on_gpu()) return std::make_unique<DeviceMemory>(bytes, *stream_);
#endif
    return std::make_unique<HostMemory>(bytes);
  }
  template <class T>
  std::unique_ptr<Memory> memory(const std::vector<T>& values) const {
    auto out = memory(values.size() * sizeof(T));
    out->put(values.data(), values.size() * sizeof(T));
    return out;
  }
  template <class T>
  std::vector<T> get(const Memory& memory, size_t n) const {
    std::vector<T> out(n);
    memory.get(out.data(), n * sizeof(T));
    return out;
  }

 private:
  std::string device_;
#ifdef BLOCKGTQ_CUDA
  std::unique_ptr<cuda::Stream> stream_;
#endif
};

/// The devices of this machine that pages can lie on.
inline const std::vector<std::string>& devices() {
  static const std::vector<std::string> all = [] {
    std::vector<std::string> found = {"cpu"};
#ifdef BLOCKGTQ_CUDA
    if (!cuda::probe_devices().devices.empty()) found.push_back("cuda:0");
#endif
    if (found.size() == 1) WARN("no CUDA device: the CPU alone is tried");
    return found;
  }();
  return all;
}

}  // namespace blockgtq::test
