// The functions of blockgtq.h: they check what they are given and hand it to the device.
#include "capi/blockgtq.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>

#include "cache/exact_page.h"
#include "capi/arguments.h"
#include "capi/page_device.h"
#include "capi/status.h"

namespace capi = blockgtq::capi;

/// The device refers to what was opened, so that a cache never moves.
struct blockgtq_cache {
  capi::Opened opened;
  std::unique_ptr<capi::PageDevice> device;
};

namespace {

const blockgtq_cache& open_cache(const blockgtq_cache* cache) {
  capi::require(cache, "the cache is a null pointer");
  return *cache;
}

/// The body of a call that works on pages.
template <class Args, class Job>
blockgtq_status run(const char* call, const blockgtq_cache* given, const Args* args,
                    void (capi::PageDevice::*work)(const Job&) const) {
  return capi::guarded(call, [&] {
    const blockgtq_cache& cache = open_cache(given);
    ((*cache.device).*work)(checked(cache.opened, capi::arguments(args), capi::Purpose::run));
  });
}

/// The body of a call that asks for scratch.
template <class Args, class Job>
blockgtq_status scratch(const char* call, const blockgtq_cache* given, const Args* args, int64_t* bytes,
                        int64_t (capi::PageDevice::*ask)(const Job&) const) {
  return capi::guarded(call, [&] {
    const blockgtq_cache& cache = open_cache(given);
    capi::require(bytes, "bytes: a null pointer");
    *bytes = 0;
    *bytes = ((*cache.device).*ask)(checked(cache.opened, capi::arguments(args), capi::Purpose::scratch));
  });
}

}  // namespace

int32_t blockgtq_interface(void) {
  return BLOCKGTQ_INTERFACE;
}

const char* blockgtq_version(void) {
  static char text[64] = "";
  static const int length =
      std::snprintf(text, sizeof text, "blockgtq %s, %s", BLOCKGTQ_VERSION, capi::kCudaText);
  return length > 0 ? text : "";
}

const char* blockgtq_last_error(void) {
  return capi::last_text();
}

blockgtq_status blockgtq_open(const blockgtq_options* options, blockgtq_cache** to) {
  return capi::guarded("blockgtq_open", [&] {
    capi::require(to, "cache: a null pointer");
    *to = nullptr;
    const blockgtq_options given = capi::arguments(options);
    const bool names_current = given.device && std::string(given.device) == "cuda";
    auto cache = std::make_unique<blockgtq_cache>();
    cache->opened = capi::open(given, names_current ? capi::current_cuda_device() : 0);
    cache->device =
        cache->opened.on_gpu() ? capi::make_cuda_device(cache->opened) : capi::make_cpu_device(cache->opened);
    *to = cache.release();
  });
}

void blockgtq_close(blockgtq_cache* cache) {
  delete cache;
}

blockgtq_status blockgtq_describe(const blockgtq_cache* given, blockgtq_description* description) {
  return capi::guarded("blockgtq_describe", [&] {
    const blockgtq_cache& cache = open_cache(given);
    blockgtq_description found = capi::describe(cache.opened);
    found.table_bytes = cache.device->table_bytes();
    capi::give(found, description);
  });
}

blockgtq_status blockgtq_describe_layer(const blockgtq_cache* given, int32_t layer,
                                        blockgtq_layer* description) {
  return capi::guarded("blockgtq_describe_layer", [&] {
    const auto& layers = open_cache(given).opened.layers;
    capi::require(layer >= 0 && size_t(layer) < layers.size(), "layer: {}, allowed: 0 to {}", layer,
                  layers.size() - 1);
    capi::give(layers[size_t(layer)], description);
  });
}

blockgtq_status blockgtq_frequencies(const blockgtq_cache* given, int32_t layer, double* out, int32_t n) {
  return capi::guarded("blockgtq_frequencies", [&] {
    const capi::Opened& opened = open_cache(given).opened;
    capi::require(opened.packed(), "without a map there are no frequencies");
    capi::require(layer >= 0 && layer < opened.shape.n_layers, "layer: {}, allowed: 0 to {}", layer,
                  opened.shape.n_layers - 1);
    const auto& frequencies = opened.specs[size_t(layer)].inv_freq;
    capi::require(out && n >= 0 && size_t(n) == frequencies.size(), "n: {}, {} frequencies are there", n,
                  frequencies.size());
    std::copy(frequencies.begin(), frequencies.end(), out);
  });
}

blockgtq_status blockgtq_encode(const blockgtq_cache* cache, const blockgtq_encode_args* args) {
  return run("blockgtq_encode", cache, args, &capi::PageDevice::encode);
}

blockgtq_status blockgtq_encode_scratch(const blockgtq_cache* cache, const blockgtq_encode_args* args,
                                        int64_t* bytes) {
  return scratch("blockgtq_encode_scratch", cache, args, bytes, &capi::PageDevice::encode_scratch);
}

blockgtq_status blockgtq_decode(const blockgtq_cache* cache, const blockgtq_decode_args* args) {
  return run("blockgtq_decode", cache, args, &capi::PageDevice::decode);
}

blockgtq_status blockgtq_decode_scratch(const blockgtq_cache* cache, const blockgtq_decode_args* args,
                                        int64_t* bytes) {
  return scratch("blockgtq_decode_scratch", cache, args, bytes, &capi::PageDevice::decode_scratch);
}

blockgtq_status blockgtq_prefill(const blockgtq_cache* cache, const blockgtq_prefill_args* args) {
  return run("blockgtq_prefill", cache, args, &capi::PageDevice::prefill);
}

blockgtq_status blockgtq_prefill_scratch(const blockgtq_cache* cache, const blockgtq_prefill_args* args,
                                         int64_t* bytes) {
  return scratch("blockgtq_prefill_scratch", cache, args, bytes, &capi::PageDevice::prefill_scratch);
}

blockgtq_status blockgtq_split(const blockgtq_cache* given, const blockgtq_split_args* args) {
  return capi::guarded("blockgtq_split", [&] {
    const blockgtq_cache& cache = open_cache(given);
    const blockgtq_split_args job = capi::arguments(args);
    capi::require_split(cache.opened, job);
    cache.device->split(job);
  });
}

int64_t blockgtq_exact_columns(int64_t sink, int64_t recent) {
  return capi::exact_columns(sink, recent);
}

int64_t blockgtq_packed_end(int64_t sink, int64_t recent, int64_t length) {
  return capi::exact_columns(sink, recent) < 0 || length < 0 ? -1
                                                             : blockgtq::packed_end({sink, recent}, length);
}

int64_t blockgtq_exact_length(int64_t sink, int64_t recent, int64_t length) {
  return capi::exact_columns(sink, recent) < 0 || length < 0 ? -1
                                                             : blockgtq::exact_length({sink, recent}, length);
}

blockgtq_status blockgtq_read(const blockgtq_cache* given, const blockgtq_read_args* args) {
  return capi::guarded("blockgtq_read", [&] {
    const blockgtq_cache& cache = open_cache(given);
    cache.device->read(checked(cache.opened, capi::arguments(args)));
  });
}
