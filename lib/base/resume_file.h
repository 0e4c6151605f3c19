#pragma once
#include <chrono>
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/progress.h"
#include "base/resume.h"

namespace blockgtq {

/// What a long run keeps beside its output, under OUTPUT.resume, so that a killed one goes on: a state (JSON
/// and arrays) of a run with a signature. The file is one line of JSON (schema blockgtq.resume/1: signature,
/// state, and names and bytes of the arrays), the arrays one after the other, little-endian, and the SHA-256
/// of all that in 64 digits. It appears and is replaced as every output is: whole.
class ResumeFile {
 public:
  /// seconds: between two saves at least, and before the first. signature: an object of all that the output
  /// depends on; it is asked for only when a state is read or saved. progress outlives this. Exit::input
  /// where there is a file of another signature, and with Resume::must where there is none or it is damaged;
  /// a damaged one is else a warning. Exit::output as OutputFile.
  ResumeFile(const fs::path& output, Resume mode, double seconds, std::function<Json()> signature,
             Progress& progress);

  const fs::path& path() const { return path_; }
  /// The state of an earlier run; null: none.
  const Json* state() const { return loaded_ ? &loaded_->head.at("state") : nullptr; }
  /// An array of it. Exit::input where there is none of this name, or of n elements.
  template <class T>
  std::vector<T> array(const std::string& name, size_t n) const {
    const std::span<const std::byte> bytes = find(name, n * sizeof(T));
    std::vector<T> values(n);
    if (n > 0) std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }
  /// It has been read, and its memory may go.
  void forget() { loaded_.reset(); }

  /// Whether to save what there is now: it is time, or the run is about to be stopped.
  bool due() const;
  struct Array {
    std::string name;
    std::span<const std::byte> bytes;
    template <class T>
    Array(std::string n, const std::vector<T>& values)
        : name(std::move(n)), bytes(std::as_bytes(std::span(values))) {}
    Array(std::string n, std::span<const float> values) : name(std::move(n)), bytes(std::as_bytes(values)) {}
  };
  /// Replaces the state. Where that cannot be written the run goes on with a warning, and without.
  void save(const Json& state, const std::vector<Array>& arrays);
  /// The output is complete: there is nothing to go on with any more.
  void remove();

 private:
  using Clock = std::chrono::steady_clock;
  struct Loaded {
    MappedFile file;
    Json head;
    std::vector<std::pair<std::string, std::span<const std::byte>>> arrays;
  };

  void load(Resume mode);
  Loaded read() const;
  std::span<const std::byte> find(const std::string& name, size_t n_bytes) const;
  const Json& signature();

  fs::path path_;
  double seconds_;
  std::function<Json()> make_signature_;
  Progress& progress_;
  std::optional<Json> signature_;
  std::optional<Loaded> loaded_;
  std::optional<OutputFile> next_;  // empty: nothing is saved any more
  Clock::time_point last_;
};

}  // namespace blockgtq
