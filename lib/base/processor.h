#pragma once

namespace blockgtq {

/// A function compiled for AVX-512 in a program for x86-64-v3: called only where has_avx512(). GCC would
/// vectorize its loops in 256 bits; clang ignores a target that names a width.
#ifdef __clang__
#define BLOCKGTQ_AVX512 [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl")]]
#else
#define BLOCKGTQ_AVX512 [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")]]
#endif

/// Whether the processor has the AVX-512 subsets that BLOCKGTQ_AVX512 compiles for.
inline bool has_avx512() {
  static const bool has = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return has;
}

/// What is inlined into functions of either kind, and vectorized there.
#define BLOCKGTQ_INLINED [[gnu::always_inline]] inline

}  // namespace blockgtq
