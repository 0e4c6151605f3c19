#include "store/h5_chunks.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "store/fletcher32.h"

namespace blockgtq {
namespace {

constexpr unsigned kNoDeflate = 1 << 1;  // deflate, the second filter, may give up on what it cannot shrink
constexpr size_t kAtOnce = 64;           // chunks that are packed or unpacked side by side

/// Exactly out.size() bytes, or false.
bool inflate_to(const std::string& in, size_t n, std::vector<char>& out) {
  z_stream z{};
  if (inflateInit(&z) != Z_OK) throw std::bad_alloc();
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.data()));
  z.avail_in = uInt(n);
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = uInt(out.size());
  const int status = inflate(&z, Z_FINISH);
  inflateEnd(&z);
  return status == Z_STREAM_END && z.avail_out == 0 && z.avail_in == 0;
}

/// Undoes HDF5's shuffle, which stores byte 0 of all items, then byte 1 of all items, and so on.
void unshuffle(const std::vector<char>& in, size_t item_bytes, std::vector<char>& out) {
  const size_t n = in.size() / item_bytes;
  for (size_t b = 0; b < item_bytes; ++b)
    for (size_t i = 0; i < n; ++i) out[i * item_bytes + b] = in[b * n + i];
}

std::string deflate(const std::vector<char>& in) {
  uLongf n = compressBound(uLong(in.size()));
  std::string out(n + kChecksumBytes, '\0');
  const int status = compress2(reinterpret_cast<Bytef*>(out.data()), &n,
                               reinterpret_cast<const Bytef*>(in.data()), uLong(in.size()), kGzipLevel);
  if (status != Z_OK) throw std::bad_alloc();
  out.resize(n);
  return out;
}

void shuffle(const std::vector<char>& in, size_t item_bytes, std::vector<char>& out) {
  const size_t n = in.size() / item_bytes;
  for (size_t b = 0; b < item_bytes; ++b)
    for (size_t i = 0; i < n; ++i) out[b * n + i] = in[i * item_bytes + b];
}

/// Calls run(from, to, bytes) for every contiguous run of a chunk that lies inside the array: where it begins
/// in the chunk, and in the array.
template <class Run>
void for_each_run(const Dims& first, const Extent& e, const Run& run) {
  const size_t rank = e.dims.size();
  Dims count(rank), at(rank, 0);
  for (size_t i = 0; i < rank; ++i) count[i] = std::min(e.chunk[i], e.dims[i] - first[i]);
  for (bool more = true; more;) {
    uint64_t from = 0, to = 0;
    for (size_t i = 0; i < rank; ++i) {
      from = from * e.chunk[i] + at[i];
      to = to * e.dims[i] + first[i] + at[i];
    }
    run(from * e.item_bytes, to * e.item_bytes, count[rank - 1] * e.item_bytes);
    more = false;
    for (size_t i = rank - 1; i-- > 0 && !more;) {
      more = ++at[i] < count[i];
      if (!more) at[i] = 0;
    }
  }
}

/// Advances `first` to the next chunk; false where it was the last one.
bool next_chunk(const Extent& e, Dims& first) {
  for (size_t i = first.size(); i-- > 0;) {
    first[i] += e.chunk[i];
    if (first[i] < e.dims[i]) return true;
    first[i] = 0;
  }
  return false;
}

/// The chunk at `first` of an array, after the filters: padded with zeros beyond the array, shuffled,
/// deflated, followed by a checksum.
std::string pack(const char* data, const Dims& first, const Extent& e) {
  std::vector<char> plain(e.chunk_bytes()), shuffled(plain.size());
  for_each_run(first, e,
               [&](uint64_t from, uint64_t to, uint64_t n) { std::memcpy(&plain[from], data + to, n); });
  shuffle(plain, e.item_bytes, shuffled);
  std::string bytes = deflate(shuffled);
  const uint32_t sum = fletcher32(bytes);
  bytes.append(reinterpret_cast<const char*>(&sum), kChecksumBytes);
  return bytes;
}

/// Undoes the filters, and copies the chunk to its place in the array.
void unpack(const StoredChunk& chunk, const Extent& e, const std::string& where, char* out) {
  std::vector<char> shuffled(e.chunk_bytes()), plain(shuffled.size());
  const size_t n = chunk.bytes.size() - kChecksumBytes;
  if (!has_its_checksum(chunk.bytes)) fail_input("{}: cannot be read: wrong checksum", where);
  bool whole = chunk.left_out == 0 && inflate_to(chunk.bytes, n, shuffled);
  if (chunk.left_out == kNoDeflate && n == shuffled.size()) {
    std::copy_n(chunk.bytes.begin(), n, shuffled.begin());
    whole = true;
  }
  if (!whole) fail_input("{}: cannot be read: a chunk that does not hold {} bytes", where, shuffled.size());
  unshuffle(shuffled, e.item_bytes, plain);
  for_each_run(chunk.first, e, [&](uint64_t from, uint64_t to, uint64_t bytes) {
    std::memcpy(out + to, &plain[from], bytes);
  });
}

}  // namespace

void for_each_chunk(hid_t set, const Extent& extent, const std::string& where,
                    const std::function<void(const StoredChunk&)>& body) {
  const size_t rank = extent.dims.size();
  StoredChunk chunk{Dims(rank, 0), {}, 0};
  std::vector<hsize_t> first(rank);
  // Deflate grows data that it cannot shrink by at most a thousandth and 12 bytes.
  const uint64_t whole = extent.chunk_bytes(), most = whole + whole / 1000 + 13 + kChecksumBytes;
  for (bool more = extent.n > 0; more;) {
    std::copy(chunk.first.begin(), chunk.first.end(), first.begin());
    unsigned mask = 0;
    haddr_t address = HADDR_UNDEF;
    hsize_t bytes = 0;
    if (H5Dget_chunk_info_by_coord(set, first.data(), &mask, &address, &bytes) < 0)
      fail_input("{}: cannot be read: {}", where, last_error());
    if (bytes < kChecksumBytes || bytes > most)
      fail_input("{}: cannot be read: a chunk of {} bytes, allowed {} to {}", where, bytes, kChecksumBytes,
                 most);
    chunk.bytes.resize(bytes);
    if (H5Dread_chunk(set, H5P_DEFAULT, first.data(), &chunk.left_out, chunk.bytes.data()) < 0)
      fail_input("{}: cannot be read: {}", where, last_error());
    body(chunk);
    more = next_chunk(extent, chunk.first);
  }
}

void read_chunks(hid_t set, const Extent& extent, const std::string& where, char* out) {
  std::vector<StoredChunk> waiting;
  const auto unpack_waiting = [&] {
    parallel_for(waiting.size(), [&](size_t i) { unpack(waiting[i], extent, where, out); });
    waiting.clear();
  };
  for_each_chunk(set, extent, where, [&](const StoredChunk& chunk) {
    waiting.push_back(chunk);
    if (waiting.size() == kAtOnce) unpack_waiting();
  });
  unpack_waiting();
}

namespace {

herr_t write_chunk(hid_t set, const Dims& first, std::string_view packed, std::vector<ChunkPlace>& places) {
  const std::vector<hsize_t> at(first.begin(), first.end());
  if (H5Dwrite_chunk(set, H5P_DEFAULT, 0, at.data(), packed.size(), packed.data()) < 0) return -1;
  unsigned mask = 0;
  haddr_t address = HADDR_UNDEF;
  hsize_t bytes = 0;
  if (H5Dget_chunk_info_by_coord(set, at.data(), &mask, &address, &bytes) < 0) return -1;
  places.push_back({address, bytes, checksum_of(packed)});
  return 0;
}

}  // namespace

herr_t write_chunks(hid_t set, const Extent& extent, const char* data, std::vector<ChunkPlace>& places) {
  std::vector<Dims> firsts;
  Dims first(extent.dims.size(), 0);
  for (bool more = extent.n > 0; more;) {
    firsts.push_back(first);
    more = next_chunk(extent, first);
    if (more && firsts.size() < kAtOnce) continue;
    std::vector<std::string> packed(firsts.size());
    parallel_for(firsts.size(), [&](size_t i) { packed[i] = pack(data, firsts[i], extent); });
    for (size_t i = 0; i < firsts.size(); ++i)
      if (write_chunk(set, firsts[i], packed[i], places) < 0) return -1;
    firsts.clear();
  }
  return 0;
}

herr_t write_packed_chunks(hid_t set, const Extent& extent, PackedChunks& from,
                           std::vector<ChunkPlace>& places) {
  Dims first(extent.dims.size(), 0);
  for (bool more = extent.n > 0; more; more = next_chunk(extent, first))
    if (write_chunk(set, first, from.next(), places) < 0) return -1;
  return 0;
}

}  // namespace blockgtq
