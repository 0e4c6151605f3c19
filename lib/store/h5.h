#pragma once
#include <cstdint>
#include <string>
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
extern const H5Type kH5Type;
template <>
inline constexpr H5Type kH5Type<uint8_t> = H5Type::u8;
template <>
inline constexpr H5Type kH5Type<int32_t> = H5Type::i32;
template <>
inline constexpr H5Type kH5Type<int64_t> = H5Type::i64;
template <>
inline constexpr H5Type kH5Type<float> = H5Type::f32;
template <>
inline constexpr H5Type kH5Type<double> = H5Type::f64;

using Dims = std::vector<uint64_t>;

}  // namespace blockgtq
