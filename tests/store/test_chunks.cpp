// Chunks that our writer never makes: what HDF5 1.10 takes for whole although it is not.
#include <hdf5.h>

#include <cstring>

#include "base/error.h"
#include "catch.h"
#include "samples.h"
#include "store/map_file.h"

using namespace blockgtq;

namespace {

/// Fletcher's sums, slowly.
uint32_t checksum(const std::string& bytes) {
  uint32_t a = 0, b = 0;
  for (size_t i = 0; i < bytes.size(); i += 2) {
    const uint32_t low = i + 1 < bytes.size() ? uint8_t(bytes[i + 1]) : 0;
    a = (a + (uint32_t(uint8_t(bytes[i])) << 8 | low)) % 65535;
    b = (b + a) % 65535;
  }
  return b << 16 | a;
}

/// Replaces the only chunk of the dataset energy, (2, 2, 4) float64.
void put_chunk(const fs::path& path, std::string data, unsigned left_out, uint32_t spoil = 0) {
  const uint32_t sum = checksum(data) ^ spoil;
  data.append(reinterpret_cast<const char*>(&sum), sizeof sum);
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT),
              set = H5Dopen2(file, "energy", H5P_DEFAULT);
  const hsize_t first[3] = {0, 0, 0};
  REQUIRE(H5Dwrite_chunk(set, H5P_DEFAULT, left_out, first, data.size(), data.data()) >= 0);
  H5Dclose(set);
  H5Fclose(file);
}

std::string refusal(const fs::path& path) {
  try {
    read_map(path);
  } catch (const Error& e) {
    CHECK(e.code == Exit::input);
    return e.what();
  }
  return "read";
}

}  // namespace

TEST_CASE("a chunk holds what it should, or is refused", "[store][chunks]") {
  constexpr unsigned kNoShuffle = 1, kNoDeflate = 2, kNoChecksum = 4;
  const TempFolder folder;
  const fs::path path = folder / "a.h5";
  write_map(path, sample_map());
  const std::string sound = bytes_of(path);
  // The energies 1 to 16, shuffled as HDF5 does it.
  std::vector<double> values;
  for (int i = 1; i <= 16; ++i) values.push_back(i);
  std::string shuffled(128, '\0');
  for (size_t i = 0; i < 128; ++i)
    shuffled[i % 8 * 16 + i / 8] = reinterpret_cast<const char*>(values.data())[i];

  put_chunk(path, shuffled, kNoDeflate);  // as the library stores what it cannot shrink
  CHECK(read_map(path).energy == values);
  const auto refused = [&](const std::string& data, unsigned left_out, uint32_t spoil = 0) {
    put_bytes(path, sound);
    put_chunk(path, data, left_out, spoil);
    return refusal(path);
  };
  const std::string short_of = "energy: cannot be read: a chunk that does not hold 128 bytes";
  CHECK_THAT(refused(shuffled.substr(0, 16), kNoDeflate), ContainsSubstring(short_of));
  CHECK_THAT(refused(shuffled + "12345678", kNoDeflate), ContainsSubstring(short_of));
  CHECK_THAT(refused(shuffled, 0), ContainsSubstring(short_of));  // said to be deflated
  CHECK_THAT(refused(shuffled, kNoDeflate | kNoShuffle), ContainsSubstring(short_of));
  CHECK_THAT(refused(shuffled, kNoDeflate | kNoChecksum), ContainsSubstring(short_of));
  CHECK_THAT(refused(shuffled, kNoDeflate, 1), ContainsSubstring("energy: cannot be read: wrong checksum"));
  CHECK_THAT(refused("", kNoDeflate), ContainsSubstring(short_of));
  CHECK_THAT(refused(std::string(4096, 'x'), kNoDeflate), ContainsSubstring("a chunk of 4100 bytes"));
}
