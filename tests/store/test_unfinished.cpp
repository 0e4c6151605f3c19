// An ACTS.h5 that a killed run left half written: its data goes into another one as it lies there.
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/error.h"
#include "catch.h"
#include "samples.h"

using namespace blockgtq;

namespace {

struct Unfinished {
  std::string bytes;  // of the file, as it lies on the disk
  ActsProgress progress;
};

/// The file as it is while its writer is at work, behind so many layers.
Unfinished unfinished(const fs::path& path, const ActsHeader& header, const Acts& acts, int n_layers) {
  ActsWriter writer(path, header);
  for (int l = 0; l < n_layers; ++l)
    writer.write_layer(l, acts.q[l].data(), acts.k[l].data(), acts.v[l].data());
  return {bytes_of(path), writer.progress()};
}

/// All but the noted chunks is noise.
std::string chunks_alone(const Unfinished& from) {
  std::string bytes(from.bytes.size(), 'x');
  for (const ChunkPlace& chunk : from.progress.chunks)
    bytes.replace(chunk.address, chunk.bytes, from.bytes, chunk.address, chunk.bytes);
  return bytes;
}

std::string refusal(const fs::path& part, const ActsProgress& progress, const ActsHeader& header,
                    const fs::path& out) {
  ActsWriter writer(out, header);
  try {
    writer.take_layers(part, progress);
  } catch (const Error& e) {
    CHECK(e.code == Exit::input);
    return e.what();
  }
  return "taken";
}

}  // namespace

TEST_CASE("layers of an unfinished file: the bytes of one that nobody disturbed", "[store][unfinished]") {
  const TempFolder folder;
  for (const ActsType type : {ActsType::f32, ActsType::bf16, ActsType::f16}) {
    const ActsHeader header = sample_acts(type, 12'000);  // q has two chunks
    const Acts acts = sample_activations(header);
    write_acts(folder / "whole.h5", header, acts);
    for (int n_layers = 0; n_layers <= header.shape.n_layers; ++n_layers) {
      const Unfinished left = unfinished(folder / "left.h5", header, acts, n_layers);
      CHECK(left.progress.n_layers == n_layers);
      put_bytes(folder / "part", chunks_alone(left));
      {
        ActsWriter writer(folder / "out.h5", header);
        writer.take_layers(folder / "part", left.progress);
        CHECK(writer.progress().n_layers == n_layers);
        for (int l = n_layers; l < header.shape.n_layers; ++l)
          writer.write_layer(l, acts.q[l].data(), acts.k[l].data(), acts.v[l].data());
        writer.finish();
      }
      CHECK((bytes_of(folder / "out.h5") == bytes_of(folder / "whole.h5")));
    }
  }
}

TEST_CASE("an unfinished file whose data is not as it was noted is refused", "[store][unfinished]") {
  const TempFolder folder;
  const ActsHeader header = sample_acts(ActsType::f32, 3000);
  const Acts acts = sample_activations(header);
  const Unfinished left = unfinished(folder / "left.h5", header, acts, 2);
  const auto refused = [&](const std::string& bytes, const ActsProgress& progress) {
    put_bytes(folder / "part", bytes);
    return refusal(folder / "part", progress, header, folder / "out.h5");
  };
  const std::string part = (folder / "part").string() + ": ";
  CHECK(refused(left.bytes, left.progress) == "taken");
  for (const ChunkPlace& chunk : left.progress.chunks)
    for (const uint64_t at : {uint64_t(0), chunk.bytes / 2, chunk.bytes - 1}) {
      std::string bytes = left.bytes;
      bytes[chunk.address + at] ^= 1;
      CHECK(refused(bytes, left.progress) ==
            part + fmt::format("{} bytes at {} are not as they were written", chunk.bytes, chunk.address));
    }
  const ChunkPlace last = left.progress.chunks.back();
  CHECK(refused(left.bytes.substr(0, last.address + last.bytes - 1), left.progress) ==
        part + fmt::format("{} bytes at {} are not in the file of {}", last.bytes, last.address,
                           last.address + last.bytes - 1));
  ActsProgress other = left.progress;
  other.chunks.pop_back();
  CHECK(refused(left.bytes, other) == part + fmt::format("{} chunks are too few", other.chunks.size()));
  for (const ChunkPlace& place : {ChunkPlace{~uint64_t(0), 8, 0}, ChunkPlace{0, ~uint64_t(0), 0},
                                  ChunkPlace{0, 3, 0}, ChunkPlace{0, 0, 0}}) {
    other = left.progress;
    other.chunks[0] = place;
    CHECK_THAT(refused(left.bytes, other), ContainsSubstring("are not in the file of"));
  }
  other = left.progress;  // another sound chunk in its place: the checksum that was noted is another one
  std::swap(other.chunks[1].checksum, other.chunks[2].checksum);
  CHECK_THAT(refused(left.bytes, other), ContainsSubstring("are not as they were written"));
}

TEST_CASE("a disk that fills up leaves what a second name keeps", "[store][full-disk][unfinished]") {
  const TempFolder folder;
  const ActsHeader header = sample_acts(ActsType::f32, 3000);
  const Acts acts = sample_activations(header);
  const int status = in_child([&] {
    signal(SIGXFSZ, SIG_IGN);
    const fs::path path = folder / "acts.h5", part = folder / "part";
    ActsWriter writer(path, header);
    writer.write_layer(0, acts.q[0].data(), acts.k[0].data(), acts.v[0].data());
    const ActsProgress progress = writer.progress();
    if (link(path.c_str(), part.c_str()) != 0) return 1;
    struct rlimit limit;
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = fs::file_size(path);
    setrlimit(RLIMIT_FSIZE, &limit);
    try {
      writer.write_layer(1, acts.q[1].data(), acts.k[1].data(), acts.v[1].data());
      return 2;
    } catch (const Error& e) {
      if (e.code != Exit::output) return 3;
    }
    limit.rlim_cur = RLIM_INFINITY;
    setrlimit(RLIMIT_FSIZE, &limit);
    return refusal(part, progress, header, folder / "again.h5") == "taken" ? 0 : 4;
  });
  CHECK(status == 0);
}
