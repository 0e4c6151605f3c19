// PTX instructions that have no C++ name: tensor-core products, transposition of fragments, byte permutation,
// asynchronous copies, barriers.
#pragma once
#include <cstdint>

namespace blockgtq::cuda {

constexpr uint32_t kAll = 0xffffffffu;  // mask of all lanes
constexpr float kLog2e = 1.4426950408889634f;

/// x rounded to the nearest TF32 number, which has ten bits behind the point.
__device__ inline uint32_t to_tf32(float x) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;\n" : "=r"(bits) : "f"(x));
  return bits;
}

/// d (16, 8) += a (16, 8) b (8, 8): TF32 operands, float32 accumulators.
__device__ inline void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// d (16, 8) += a (16, 16) b (16, 8): fp16 operands, float32 accumulators.
__device__ inline void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// d = a b: the first product of a chain. It needs no accumulators that were set to zero.
__device__ inline void mma_first(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%10,%10,%10,%10};\n"
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(0.0f));
}

/// The same two with fp16 accumulators.
__device__ inline void mma(uint32_t (&d)[2], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%0,%1}, {%2,%3,%4,%5}, {%6,%7}, {%0,%1};\n"
               : "+r"(d[0]), "+r"(d[1])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ inline void mma_first(uint32_t (&d)[2], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%0,%1}, {%2,%3,%4,%5}, {%6,%7}, {%8,%8};\n"
               : "=r"(d[0]), "=r"(d[1])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(0));
}

/// The two with float32 accumulators at depth 8 instead of 16.
__device__ inline void mma(float (&d)[4], const uint32_t (&a)[2], uint32_t b) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(b));
}
__device__ inline void mma_first(float (&d)[4], const uint32_t (&a)[2], uint32_t b) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%7,%7,%7,%7};\n"
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(b), "f"(0.0f));
}

/// d (16, 8) += a (16, 32) b (32, 8) in int32: signed bytes in a, signed or unsigned bytes in b.
template <bool kUnsigned>
__device__ inline void mma(int (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  if constexpr (kUnsigned)
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.u8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};\n"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  else
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};\n"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// The same at depth 16 instead of 32, with signed bytes in both operands.
__device__ inline void mma(int (&d)[4], const uint32_t (&a)[2], uint32_t b) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};\n"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(b));
}

/// d = a b + from: the first product of a chain, which starts from given accumulators.
template <bool kUnsigned>
__device__ inline void mma_first(int (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                                 const int (&from)[4]) {
  if constexpr (kUnsigned)
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.u8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%10,%11,%12,%13};\n"
        : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(from[0]), "r"(from[1]),
          "r"(from[2]), "r"(from[3]));
  else
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%10,%11,%12,%13};\n"
        : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(from[0]), "r"(from[1]),
          "r"(from[2]), "r"(from[3]));
}

/// d = from by one instruction instead of four: a product of anything with a b of zeros.
__device__ inline void set_sums(int (&d)[4], uint32_t anything, uint32_t other, const int (&from)[4]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%7,%8,%9,%10};\n"
      : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
      : "r"(anything), "r"(other), "r"(0), "r"(from[0]), "r"(from[1]), "r"(from[2]), "r"(from[3]));
}

/// Transposes an 8 x 8 matrix of fp16. Lane 4 r + c holds columns 2 c and 2 c + 1 of row r.
__device__ inline uint32_t transpose8(uint32_t x) {
  uint32_t y;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;\n" : "=r"(y) : "r"(x));
  return y;
}

/// Picks four of the eight bytes of (low, high) by the four nibbles in the low half of `selector`. The top
/// bit of a nibble asks for the sign of its byte instead: eight copies of it, which read 0 or -1.
__device__ inline uint32_t permute(uint32_t low, uint32_t high, uint32_t selector) {
  uint32_t y;
  asm("prmt.b32 %0, %1, %2, %3;\n" : "=r"(y) : "r"(low), "r"(high), "r"(selector));
  return y;
}

__device__ inline float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
  return y;
}

/// Makes the compiler compute this address, which lies in global memory, here and not at its first use.
template <class T>
__device__ inline void settle(T*& p) {
  asm volatile("" : "+l"(p));
  __builtin_assume(__isGlobal(p));
}

/// Copies the upper half of x to both halves, by an fp16 product with one. That is exact where the half reads
/// as a number, subnormal ones included.
__device__ inline uint32_t times_one_upper(uint32_t x) {
  uint32_t y;
  asm("{\n .reg .f16 low, high;\n .reg .b32 both;\n mov.b32 {low, high}, %1;\n mov.b32 both, {high, high};\n"
      " mul.rn.f16x2 %0, both, %2;\n}\n"
      : "=r"(y)
      : "r"(x), "r"(0x3c003c00u));
  return y;
}

/// x in a register of its own, of whose value the compiler knows nothing.
__device__ inline int kept(int x) {
  int y;
  asm volatile("mov.b32 %0, %1;\n" : "=r"(y) : "r"(x));
  return y;
}

/// Takes bits of x where the mask's bits are set, and of y elsewhere. It is one instruction, which the
/// compiler does not always find.
__device__ inline uint32_t choose(uint32_t mask, uint32_t x, uint32_t y) {
  uint32_t z;
  asm("lop3.b32 %0, %1, %2, %3, 0xca;\n" : "=r"(z) : "r"(mask), "r"(x), "r"(y));
  return z;
}

__device__ inline float rsqrt_fast(float x) {
  float y;
  asm("rsqrt.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
  return y;
}

/// Prefetches 128 bytes into the L2 cache.
__device__ inline void fetch_line(const void* p) {
  asm volatile("prefetch.global.L2 [%0];\n" ::"l"(p));
}

__device__ inline uint32_t shared_address(const void* p) {
  return uint32_t(__cvta_generic_to_shared(p));
}

/// Starts an asynchronous copy of 16 bytes from global to shared memory. Both addresses are multiples of 16.
__device__ inline void copy_line(void* to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;\n" ::"r"(shared_address(to)), "l"(from) : "memory");
}
/// Waits for all copies that this thread has started.
__device__ inline void wait_for_lines() {
  asm volatile("cp.async.wait_all;\n" ::: "memory");
}
/// close_group() makes one group of the copies so far. wait_for_groups() waits until all but the newest
/// kPending groups of this thread have arrived.
__device__ inline void close_group() {
  asm volatile("cp.async.commit_group;\n" ::: "memory");
}
template <int kPending>
__device__ inline void wait_for_groups() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kPending) : "memory");
}

/// Programmatic dependent launch. A kernel that was launched early waits here until the preceding kernel has
/// ended. let_successor_start() allows the next kernel to be launched.
__device__ inline void wait_for_predecessor() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;\n" ::: "memory");
#endif
}
__device__ inline void let_successor_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;\n");
#endif
}

/// Loads four 8 x 8 matrices of fp16 from shared memory as fragments of operands: lane (r, c) gets
/// columns 2 c and 2 c + 1 of row r. Every lane gives the address of a row of 16 bytes: lane 8 i + r
/// gives that of row r of matrix i.
__device__ inline void load_matrices(uint32_t (&x)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
               : "r"(shared_address(row))
               : "memory");
}

/// Waits until the mbarrier's phase of this parity is over.
__device__ inline void wait_for_phase(uint32_t barrier, int parity) {
#if __CUDA_ARCH__ >= 900
  uint32_t done = 0;
  while (!done)
    asm volatile(
        "{\n.reg .pred p;\nmbarrier.try_wait.parity.shared.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}\n"
        : "=r"(done)
        : "r"(barrier), "r"(parity)
        : "memory");
#endif
}

/// The barrier of a cluster, from sm_90 on. What any thread wrote before arrive_in_cluster() is visible to
/// all threads of the cluster after wait_for_cluster().
__device__ inline void arrive_in_cluster() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release.aligned;\n" ::: "memory");
#endif
}
__device__ inline void wait_for_cluster() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.wait.acquire.aligned;\n" ::: "memory");
#endif
}

/// Initializes an mbarrier of this block, which counts the bytes that other blocks of the cluster send to it.
/// One thread calls it, and then arrive_in_cluster().
__device__ inline void make_mailbox(uint64_t* barrier) {
#if __CUDA_ARCH__ >= 900
  asm volatile("mbarrier.init.shared.b64 [%0], 1;\n" ::"r"(shared_address(barrier)) : "memory");
  asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory");
#endif
}
/// Sets the number of bytes that end the barrier's phase. They may arrive before this call or after it. One
/// thread calls it, after wait_for_cluster().
__device__ inline void expect_sent(uint64_t* barrier, uint32_t bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;\n" ::"r"(shared_address(barrier)),
               "r"(bytes)
               : "memory");
#endif
}

/// Stores four numbers in the shared memory of block `rank` of the cluster, whose barrier counts 16 bytes for
/// them. `to` and `barrier` are addresses in this block. The other block's are at the same offsets.
__device__ inline void send(const void* to, float4 x, const uint64_t* barrier, int rank) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "{\n.reg .b32 to, barrier;\nmapa.shared::cluster.u32 to, %0, %6;\nmapa.shared::cluster.u32 barrier, "
      "%5, %6;\nst.async.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [to], {%1, %2, %3, %4}, "
      "[barrier];\n}\n" ::"r"(shared_address(to)),
      "f"(x.x), "f"(x.y), "f"(x.z), "f"(x.w), "r"(shared_address(barrier)), "r"(rank)
      : "memory");
#endif
}

/// Waits until the bytes of expect_sent() have arrived.
__device__ inline void wait_for_sent(const uint64_t* barrier) {
#if __CUDA_ARCH__ >= 900
  uint32_t done = 0;
  while (!done)
    asm volatile(
        "{\n.reg .pred p;\nmbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], 0;\nselp.u32 "
        "%0, 1, 0, p;\n}\n"
        : "=r"(done)
        : "r"(shared_address(barrier))
        : "memory");
#endif
}

/// A pipeline of copies from global to shared memory, for one warp that reads only what it asked for. `bytes`
/// and both addresses are multiples of 16. On sm_90 one lane starts a bulk copy that completes on an
/// mbarrier. On older devices every lane copies 16 bytes at a time. Loads are waited for in the order in
/// which they were started, and kStages of them may be in flight.
template <int kStages>
class Arrivals {
 public:
  /// barriers: kStages mbarriers in shared memory that belong to this warp.
  __device__ explicit Arrivals(uint64_t* barriers) : barriers_(shared_address(barriers)) {
#if __CUDA_ARCH__ >= 900
    if (threadIdx.x % 32 == 0) {
      for (int i = 0; i < kStages; ++i)
        asm volatile("mbarrier.init.shared.b64 [%0], 1;\n" ::"r"(barriers_ + 8 * i) : "memory");
      asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
    }
    __syncwarp();
#endif
  }
  /// Begins a load of `bytes` in total. Its copies follow.
  __device__ void expect(int stage, uint32_t bytes) {
#if __CUDA_ARCH__ >= 900
    if (threadIdx.x % 32 == 0)
      asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;\n" ::"r"(barriers_ + 8 * stage),
                   "r"(bytes)
                   : "memory");
#endif
  }
  __device__ void copy(int stage, void* to, const void* from, uint32_t bytes) {
    const uint32_t address = shared_address(to);
#if __CUDA_ARCH__ >= 900
    if (threadIdx.x % 32 == 0)
      asm volatile(
          "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];\n" ::"r"(
              address),
          "l"(from), "r"(bytes), "r"(barriers_ + 8 * stage)
          : "memory");
#else
    for (uint32_t i = threadIdx.x % 32 * 16; i < bytes; i += 512)
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;\n" ::"r"(address + i),
                   "l"(static_cast<const uint8_t*>(from) + i)
                   : "memory");
#endif
  }
  /// Ends what expect() began. Call it also where there was nothing left to load.
  __device__ void commit() {
#if __CUDA_ARCH__ < 900
    asm volatile("cp.async.commit_group;\n" ::: "memory");
#endif
  }
  /// Waits for the oldest load. Its stage has been used `round` times before.
  __device__ void wait(int stage, int round) const {
#if __CUDA_ARCH__ >= 900
    wait_for_phase(barriers_ + 8 * stage, round & 1);
#else
    asm volatile("cp.async.wait_group %0;\n" ::"n"(kStages - 1) : "memory");
    __syncwarp();
#endif
  }

 private:
  uint32_t barriers_;
};

}  // namespace blockgtq::cuda
