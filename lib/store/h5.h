#pragma once
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

namespace blockgtq {

// The part of HDF5 that our files use, behind H5Output and H5Input. Private to lib/store; only h5_*.cpp see
// hdf5.h.
//
// On disk: the format of HDF5 1.10 (every piece of metadata carries a checksum), no time stamps. Arrays are
// chunked datasets with shuffle + gzip 4 + fletcher32, chunks of at most 1 MiB (or one element); an array of
// no elements is left out. Text is UTF-8 of fixed length, padded with NUL. Scalars are attributes of the root
// group.

/// Element types, little endian. f16 is an IEEE half (h5py: float16).
enum class H5Type { u8, u16, i32, i64, u64, f16, f32, f64 };

/// The type of the elements of an array of T.
template <class T>
constexpr H5Type h5_type() {
  if constexpr (std::is_same_v<T, uint8_t>) return H5Type::u8;
  if constexpr (std::is_same_v<T, int32_t>) return H5Type::i32;
  if constexpr (std::is_same_v<T, int64_t>) return H5Type::i64;
  if constexpr (std::is_same_v<T, float>) return H5Type::f32;
  if constexpr (std::is_same_v<T, double>) return H5Type::f64;
}

using Dims = std::vector<uint64_t>;

}  // namespace blockgtq
