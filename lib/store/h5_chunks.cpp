#include "store/h5_chunks.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <vector>

#include "base/error.h"

namespace blockgtq {
namespace {

constexpr size_t kChecksumBytes = 4;
constexpr unsigned kNoDeflate = 1 << 1;  // deflate, the second filter, may give up on what it cannot shrink

/// As HDF5's filter 3 has it: sums of 16-bit words, high byte first, an odd byte as the high one; of the two
/// zeros of such sums 0xffff, unless all words are zero.
uint32_t fletcher32(const std::string& bytes, size_t n) {
  constexpr size_t kBlock = 720;  // so many bytes' sums fit 32 bits
  const auto byte = [&](size_t i) { return i < n ? uint32_t(uint8_t(bytes[i])) : 0; };
  const auto fold = [](uint32_t sum) { return (sum & 0xffff) + (sum >> 16); };
  uint32_t a = 0, b = 0;
  for (size_t first = 0; first < n; first += kBlock) {
    for (size_t i = first; i < std::min(n, first + kBlock); i += 2) {
      a += byte(i) << 8 | byte(i + 1);
      b += a;
    }
    a = fold(a);
    b = fold(b);
  }
  return fold(b) << 16 | fold(a);
}

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

/// Byte i of every item lie together; afterwards the bytes of every item.
void unshuffle(const std::vector<char>& in, size_t item_bytes, std::vector<char>& out) {
  const size_t n = in.size() / item_bytes;
  for (size_t b = 0; b < item_bytes; ++b)
    for (size_t i = 0; i < n; ++i) out[i * item_bytes + b] = in[b * n + i];
}

/// What of a chunk lies inside the array, to its place there.
void place(const std::vector<char>& chunk, const Dims& first, const Extent& e, char* out) {
  const size_t rank = e.dims.size();
  Dims count(rank), at(rank, 0);
  for (size_t i = 0; i < rank; ++i) count[i] = std::min(e.chunk[i], e.dims[i] - first[i]);
  const size_t run = count[rank - 1] * e.item_bytes;
  for (bool more = true; more;) {
    uint64_t from = 0, to = 0;
    for (size_t i = 0; i < rank; ++i) {
      from = from * e.chunk[i] + at[i];
      to = to * e.dims[i] + first[i] + at[i];
    }
    std::memcpy(out + to * e.item_bytes, chunk.data() + from * e.item_bytes, run);
    more = false;
    for (size_t i = rank - 1; i-- > 0 && !more;) {
      more = ++at[i] < count[i];
      if (!more) at[i] = 0;
    }
  }
}

}  // namespace

void for_each_chunk(hid_t set, const Extent& extent, const std::string& where,
                    const std::function<void(const StoredChunk&)>& body) {
  const size_t rank = extent.dims.size();
  StoredChunk chunk{Dims(rank, 0), {}, 0};
  std::vector<hsize_t> first(rank);
  // Deflate adds at most a thousandth and 12 bytes to what it cannot shrink.
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
    more = false;
    for (size_t i = rank; i-- > 0 && !more;) {
      chunk.first[i] += extent.chunk[i];
      more = chunk.first[i] < extent.dims[i];
      if (!more) chunk.first[i] = 0;
    }
  }
}

void read_chunks(hid_t set, const Extent& extent, const std::string& where, char* out) {
  std::vector<char> shuffled(extent.chunk_bytes()), plain(shuffled.size());
  for_each_chunk(set, extent, where, [&](const StoredChunk& chunk) {
    const size_t n = chunk.bytes.size() - kChecksumBytes;
    uint32_t stored = 0;
    std::memcpy(&stored, chunk.bytes.data() + n, kChecksumBytes);
    if (stored != fletcher32(chunk.bytes, n)) fail_input("{}: cannot be read: wrong checksum", where);
    bool whole = chunk.left_out == 0 && inflate_to(chunk.bytes, n, shuffled);
    if (chunk.left_out == kNoDeflate && n == shuffled.size()) {
      std::copy_n(chunk.bytes.begin(), n, shuffled.begin());
      whole = true;
    }
    if (!whole) fail_input("{}: cannot be read: a chunk that does not hold {} bytes", where, shuffled.size());
    unshuffle(shuffled, extent.item_bytes, plain);
    place(plain, chunk.first, extent, out);
  });
}

}  // namespace blockgtq
