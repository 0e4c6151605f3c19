#include "kernels/device/device.h"

#include "kernels/device/check.cuh"

namespace blockgtq::cuda {
namespace {

std::string version_text(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

}  // namespace

DeviceReport probe_devices() {
  DeviceReport report;
  report.architectures = BLOCKGTQ_CUDA_ARCHITECTURES;
  int version = 0;
  if (cudaRuntimeGetVersion(&version) == cudaSuccess) report.runtime = version_text(version);
  if (cudaDriverGetVersion(&version) == cudaSuccess && version > 0) report.driver = version_text(version);
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess || count == 0) {
    report.why_none = report.driver.empty()   ? "no NVIDIA driver"
                      : status == cudaSuccess ? "no CUDA device is visible"
                                              : cudaGetErrorString(status);
    return report;
  }
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties{};
    if (cudaGetDeviceProperties(&properties, i) != cudaSuccess) continue;
    DeviceInfo info;
    info.index = i;
    info.name = properties.name;
    info.major = properties.major;
    info.minor = properties.minor;
    info.multiprocessors = properties.multiProcessorCount;
    info.total_bytes = int64_t(properties.totalGlobalMem);
    size_t free = 0, total = 0;
    if (cudaSetDevice(i) == cudaSuccess && cudaMemGetInfo(&free, &total) == cudaSuccess)
      info.free_bytes = int64_t(free);
    report.devices.push_back(info);
  }
  cudaSetDevice(0);
  if (report.devices.empty()) report.why_none = "no CUDA device answers";
  return report;
}

template <Memory where>
MemoryBuffer<where>::MemoryBuffer(size_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  if constexpr (where == Memory::pinned) {
    check_cuda(cudaMallocHost(&data_, bytes), "page-locked host memory");
  } else if (cudaMalloc(&data_, bytes) != cudaSuccess) {
    cudaGetLastError();
    throw Error(Exit::device,
                fmt::format("device memory: {:.2f} GiB needed, {:.2f} GiB free", double(bytes) / (1 << 30),
                            double(free_device_bytes()) / (1 << 30)),
                "fewer --tokens, a smaller --chunk, or --device cpu");
  }
}

template <Memory where>
MemoryBuffer<where>::~MemoryBuffer() {
  where == Memory::pinned ? cudaFreeHost(data_) : cudaFree(data_);
}

template class MemoryBuffer<Memory::device>;
template class MemoryBuffer<Memory::pinned>;

Stream::Stream() {
  cudaStream_t stream = nullptr;
  check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
  handle_ = stream;
}
Stream::~Stream() {
  if (owned_) cudaStreamDestroy(static_cast<cudaStream_t>(handle_));
}
void Stream::synchronize() const {
  check_cuda(cudaStreamSynchronize(raw(*this)), "a kernel failed");
}

Event::Event() {
  cudaEvent_t event = nullptr;
  check_cuda(cudaEventCreate(&event), "event");
  handle_ = event;
}
Event::~Event() {
  cudaEventDestroy(static_cast<cudaEvent_t>(handle_));
}
void Event::record(const Stream& stream) {
  check_cuda(cudaEventRecord(static_cast<cudaEvent_t>(handle_), raw(stream)), "event record");
}
void Event::wait_on(const Stream& stream) const {
  check_cuda(cudaStreamWaitEvent(raw(stream), static_cast<cudaEvent_t>(handle_), 0), "event wait");
}
void Event::synchronize() const {
  check_cuda(cudaEventSynchronize(static_cast<cudaEvent_t>(handle_)), "event");
}
float Event::milliseconds_since(const Event& earlier) const {
  float ms = 0;
  check_cuda(
      cudaEventElapsedTime(&ms, static_cast<cudaEvent_t>(earlier.handle_), static_cast<cudaEvent_t>(handle_)),
      "event time");
  return ms;
}

void set_device(int index) {
  check_cuda(cudaSetDevice(index), "cannot use the device");
}

int current_device() {
  int index = 0;
  check_cuda(cudaGetDevice(&index), "current device");
  return index;
}

int64_t free_device_bytes() {
  size_t free = 0, total = 0;
  check_cuda(cudaMemGetInfo(&free, &total), "memory info");
  return int64_t(free);
}

void upload(void* device, const void* host, size_t bytes, const Stream& stream) {
  check_cuda(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, raw(stream)), "copy to the device");
}
void download(void* host, const void* device, size_t bytes, const Stream& stream) {
  check_cuda(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, raw(stream)),
             "copy from the device");
}
void copy_on_device(void* to, const void* from, size_t bytes, const Stream& stream) {
  check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, raw(stream)), "copy on the device");
}
void download_now(void* host, const void* device, size_t bytes, void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  check_cuda(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, s), "copy from the device");
  check_cuda(cudaStreamSynchronize(s), "a kernel failed");
}
void download_rows_now(void* host, const void* device, size_t row_bytes, size_t pitch, size_t n,
                       void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  check_cuda(cudaMemcpy2DAsync(host, row_bytes, device, pitch, row_bytes, n, cudaMemcpyDeviceToHost, s),
             "copy from the device");
  check_cuda(cudaStreamSynchronize(s), "a kernel failed");
}
void fill_zero(void* device, size_t bytes, const Stream& stream) {
  check_cuda(cudaMemsetAsync(device, 0, bytes, raw(stream)), "memset");
}

}  // namespace blockgtq::cuda
