#include "store/packed_chunks.h"

#include "base/error.h"
#include "store/fletcher32.h"

namespace blockgtq {

std::string_view PackedChunks::next() {
  const std::string name = file_.path().string();
  if (at_end()) fail_input("{}: {} chunks are too few", name, n_read_);
  const ChunkPlace& place = places_[n_read_++];
  const std::string_view all = file_.text();
  if (place.bytes < kChecksumBytes || place.bytes > all.size() || place.address > all.size() - place.bytes)
    fail_input("{}: {} bytes at {} are not in the file of {}", name, place.bytes, place.address, all.size());
  const std::string_view packed = all.substr(place.address, place.bytes);
  if (checksum_of(packed) != place.checksum || !has_its_checksum(packed))
    fail_input("{}: {} bytes at {} are not as they were written", name, place.bytes, place.address);
  return packed;
}

}  // namespace blockgtq
