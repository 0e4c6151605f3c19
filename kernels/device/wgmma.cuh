// Instructions that only sm_90a has, and what goes with them: products of a warpgroup (128 threads)
// whose operands lie in shared memory, barriers that count bytes, bulk copies. The functions are empty
// for other architectures.
#pragma once
#include "kernels/device/ptx.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define BLOCKGTQ_SM90A 1
#endif

namespace blockgtq::cuda {

/// The descriptor of an operand in shared memory with the 128-byte swizzle. Its rows are 128 bytes, 64 fp16
/// numbers along the depth, and 16-byte piece i of row r lies at i ^ (r % 8). Groups of eight rows follow
/// each other. address: of row 0, a multiple of 1024, plus 32 bytes for every 16 numbers of depth. Depth
/// beyond 64 is another operand.
__device__ inline uint64_t operand_at(uint32_t address) {
  constexpr uint64_t kEightRows = 1024 / 16, kSwizzle128 = 1;
  return uint64_t((address & 0x3ffff) >> 4) | uint64_t(1) << 16 | kEightRows << 32 | kSwizzle128 << 62;
}

#ifdef BLOCKGTQ_SM90A
#define BLOCKGTQ_FOUR(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define BLOCKGTQ_SIXTEEN(d, i) \
  BLOCKGTQ_FOUR(d, i), BLOCKGTQ_FOUR(d, i + 4), BLOCKGTQ_FOUR(d, i + 8), BLOCKGTQ_FOUR(d, i + 12)
#define BLOCKGTQ_REGISTERS_32                                                                             \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, " \
  "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31}"
#define BLOCKGTQ_REGISTERS_64                                                                             \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, " \
  "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, "  \
  "%42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, "  \
  "%62, %63}"
#endif

/// d (64, 64 or 128) = a b, plus d where `add`. a (64, 16) and b (16, columns) lie in shared memory,
/// where b's columns are rows. Thread 32 w + 4 r + c of the warpgroup holds rows 16 w + r and
/// 16 w + 8 + r: d[4 n + 2 h + e] is row 16 w + 8 h + r, column 8 n + 2 c + e. The product is
/// asynchronous: see start_products().
__device__ inline void multiply_tiles(float (&d)[32], uint64_t a, uint64_t b, bool add) {
#ifdef BLOCKGTQ_SM90A
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 " BLOCKGTQ_REGISTERS_32
      ", %32, %33, p, 1, 1, 0, 0;\n}\n"
      : BLOCKGTQ_SIXTEEN(d, 0), BLOCKGTQ_SIXTEEN(d, 16)
      : "l"(a), "l"(b), "r"(int(add)));
#endif
}
__device__ inline void multiply_tiles(float (&d)[64], uint64_t a, uint64_t b, bool add) {
#ifdef BLOCKGTQ_SM90A
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 " BLOCKGTQ_REGISTERS_64
      ", %64, %65, p, 1, 1, 0, 0;\n}\n"
      : BLOCKGTQ_SIXTEEN(d, 0), BLOCKGTQ_SIXTEEN(d, 16), BLOCKGTQ_SIXTEEN(d, 32), BLOCKGTQ_SIXTEEN(d, 48)
      : "l"(a), "l"(b), "r"(int(add)));
#endif
}

/// d += a b with a in registers: the A fragment of mma.m16n8k16, with 16 rows per warp.
__device__ inline void multiply_rows(float (&d)[32], const uint32_t* a, uint64_t b) {
#ifdef BLOCKGTQ_SM90A
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 " BLOCKGTQ_REGISTERS_32
      ", {%32, %33, %34, %35}, %36, p, 1, 1, 0;\n}\n"
      : BLOCKGTQ_SIXTEEN(d, 0), BLOCKGTQ_SIXTEEN(d, 16)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(1));
#endif
}
__device__ inline void multiply_rows(float (&d)[64], const uint32_t* a, uint64_t b) {
#ifdef BLOCKGTQ_SM90A
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %69, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 " BLOCKGTQ_REGISTERS_64
      ", {%64, %65, %66, %67}, %68, p, 1, 1, 0;\n}\n"
      : BLOCKGTQ_SIXTEEN(d, 0), BLOCKGTQ_SIXTEEN(d, 16), BLOCKGTQ_SIXTEEN(d, 32), BLOCKGTQ_SIXTEEN(d, 48)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(1));
#endif
}

/// start_products() comes before products: it makes earlier writes to their registers visible.
/// close_products() makes one group of the products so far.
__device__ inline void start_products() {
#ifdef BLOCKGTQ_SM90A
  asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory");
#endif
}
__device__ inline void close_products() {
#ifdef BLOCKGTQ_SM90A
  asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
#endif
}
/// Waits until all groups but the newest kPending are done.
template <int kPending>
__device__ inline void wait_for_products() {
#ifdef BLOCKGTQ_SM90A
  asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(kPending) : "memory");
#endif
}
/// The compiler moves no read of these numbers before this place, and no write to them behind it.
template <int kCount>
__device__ inline void pin(float (&x)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(x[i])::"memory");
}
template <int kCount>
__device__ inline void pin(uint32_t (&x)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+r"(x[i])::"memory");
}

/// Sets the number of registers per thread of this warpgroup, a multiple of 8. The warpgroup that copies
/// gives registers up, and those that multiply take them.
template <int kCount>
__device__ inline void give_registers() {
#ifdef BLOCKGTQ_SM90A
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;\n" ::"n"(kCount));
#endif
}
template <int kCount>
__device__ inline void take_registers() {
#ifdef BLOCKGTQ_SM90A
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;\n" ::"n"(kCount));
#endif
}

/// Makes what threads have written to shared memory visible to products and bulk
/// copies that start afterwards.
__device__ inline void show_to_products() {
#ifdef BLOCKGTQ_SM90A
  asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
#endif
}
/// A barrier for `threads` threads of the block. Barrier 0 is that of __syncthreads().
__device__ inline void meet(int barrier, int threads) {
  asm volatile("bar.sync %0, %1;\n" ::"r"(barrier), "r"(threads) : "memory");
}

/// Initializes an mbarrier, given by its address in shared memory. A phase ends after `count` arrivals and
/// the bytes that they expect.
__device__ inline void make_barrier(uint32_t barrier, int count) {
#ifdef BLOCKGTQ_SM90A
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(barrier), "r"(count) : "memory");
#endif
}
/// Makes new barriers visible. The thread that made them calls it before others use them.
__device__ inline void show_barriers() {
#ifdef BLOCKGTQ_SM90A
  asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
#endif
}
__device__ inline void arrive(uint32_t barrier) {
#ifdef BLOCKGTQ_SM90A
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(barrier) : "memory");
#endif
}
__device__ inline void arrive_expecting(uint32_t barrier, uint32_t bytes) {
#ifdef BLOCKGTQ_SM90A
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(barrier), "r"(bytes)
               : "memory");
#endif
}
/// Copies from global to shared memory. Addresses and size are multiples of 16 bytes. The
/// barrier counts the bytes.
__device__ inline void copy_bulk(uint32_t to, const void* from, uint32_t bytes, uint32_t barrier) {
#ifdef BLOCKGTQ_SM90A
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];\n" ::"r"(to),
      "l"(from), "r"(bytes), "r"(barrier)
      : "memory");
#endif
}

}  // namespace blockgtq::cuda
