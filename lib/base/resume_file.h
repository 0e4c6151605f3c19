#pragma once
#include <chrono>
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/progress.h"
#include "base/resume.h"

namespace blockgtq {

/// What a file holds is of another run.
struct ForeignResume : Error {
  using Error::Error;
};

/// What a long run keeps beside its output, under OUTPUT.resume, so that a killed one goes on. A run is one
/// or more stages, the same ones in the same order each time; each has a signature, and a state: JSON and
/// arrays. The file is one line of JSON (schema blockgtq.resume/1: "stages", each with signature, state, and
/// names and bytes of its arrays), the arrays one after the other as they lie in memory, and the SHA-256 of
/// all that in 64 digits. It appears and is replaced as every output is: whole.
class ResumeFile {
 public:
  using Signature = std::function<Json()>;

  /// seconds: between two saves at least, and before the first. progress outlives this. Exit::input with
  /// Resume::must where there is no file or it is damaged; a damaged one is else a warning. Exit::output as
  /// OutputFile.
  ResumeFile(const fs::path& output, Resume mode, double seconds, Progress& progress);

  const fs::path& path() const { return path_; }
  /// Whether there is a file of an earlier run.
  bool found() const { return loaded_.has_value(); }

  /// Begins the next stage. signature: an object of all that it depends on, asked for only when a state is
  /// read or saved. ForeignResume (Exit::input), field by field, where the file has the stage under another
  /// one. A stage before that has not ended has failed, and keeps its number.
  void begin(const std::string& stage, Signature signature);
  /// The state of this stage in an earlier run; null: none. It and the arrays are there until save().
  const Json* state() const;
  /// An array of it. Exit::input where there is none of this name, or of n elements.
  template <class T>
  std::vector<T> array(const std::string& name, size_t n) const {
    const std::span<const std::byte> bytes = find(name, n * sizeof(T));
    std::vector<T> values(n);
    if (n > 0) std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }

  /// Whether to save what there is now: it is time, or the run is about to be stopped.
  bool due() const;
  struct Array {
    std::string name;
    std::span<const std::byte> bytes;
    template <class T>
    Array(std::string n, const std::vector<T>& values)
        : name(std::move(n)), bytes(std::as_bytes(std::span(values))) {}
    template <class T>
    Array(std::string n, std::span<const T> values) : name(std::move(n)), bytes(std::as_bytes(values)) {}
  };
  /// Replaces the file: the stages that have ended, and this one's state. Where it cannot be written the run
  /// goes on with a warning, and without.
  void save(const Json& state, const std::vector<Array>& arrays);
  /// This run keeps nothing from here on: a warning says why. Throws the error again where it is not
  /// Exit::output.
  void give_up(const Error& why);
  /// What an earlier run kept cannot be used: a warning says why, and this run begins anew. Throws the error
  /// again where it is not Exit::input, and with Resume::must.
  void begin_anew(const Error& why);
  /// The stage has ended with this state, a copy of which stands in every later save().
  void end(const Json& state, const std::vector<Array>& arrays);
  /// The output is complete: there is nothing to go on with any more.
  void remove();

 private:
  using Clock = std::chrono::steady_clock;
  struct Loaded {
    MappedFile file;
    Json stages;
    std::vector<std::vector<std::pair<std::string, std::span<const std::byte>>>> arrays;  // by stage
  };

  Loaded read() const;
  const Json* loaded_stage() const;
  std::span<const std::byte> find(const std::string& name, size_t n_bytes) const;
  Json describe(const Json& state, const std::vector<Array>& arrays);

  fs::path path_;
  Resume mode_;
  double seconds_;
  Progress& progress_;
  Signature signature_;
  std::optional<Loaded> loaded_;
  std::optional<OutputFile> next_;  // empty: nothing is saved any more
  Clock::time_point last_;
  size_t n_begun_ = 0;  // stages; all but the last are in ended_, and that too once it has ended
  Json ended_ = Json::array();
  std::string ended_bytes_;
};

}  // namespace blockgtq
