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

/// The error for a file that belongs to another run.
struct ForeignResume : Error {
  using Error::Error;
};

/// The state that a long run keeps beside its output, under OUTPUT.resume, so that a killed run continues. A
/// run has one or more stages, the same ones in the same order each time. A stage has a signature and a
/// state, which is JSON and arrays. The file holds one line of JSON (schema blockgtq.resume/1: "stages", each
/// with signature, state, and names and bytes of its arrays), the arrays one after the other as they lie in
/// memory, and 64 digits of SHA-256 over all that. It is replaced as a whole, as every output.
class ResumeFile {
 public:
  using Signature = std::function<Json()>;

  /// seconds: the least time between two saves, and before the first. `progress` must outlive this object.
  /// Exit::input where there is no file, or a damaged one, with Resume::must; otherwise a damaged file is a
  /// warning. Exit::output as OutputFile.
  ResumeFile(const fs::path& output, Resume mode, double seconds, Progress& progress);

  const fs::path& path() const { return path_; }
  /// Whether there is a file of an earlier run.
  bool found() const { return loaded_.has_value(); }

  /// Begins the next stage. signature returns an object of all that the stage depends on; it is called only
  /// when a state is read or saved. ForeignResume (Exit::input), field by field, where the file has the stage
  /// with another signature. An earlier stage that has not ended has failed, and keeps its number.
  void begin(const std::string& stage, Signature signature);
  /// The state that an earlier run saved for this stage; null: none. It and the arrays are valid until
  /// save().
  const Json* state() const;
  /// An array of that state. Exit::input where there is none of this name with n elements.
  template <class T>
  std::vector<T> array(const std::string& name, size_t n) const {
    const std::span<const std::byte> bytes = find(name, n * sizeof(T));
    std::vector<T> values(n);
    if (n > 0) std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }

  /// Whether to save the state now: enough time has passed, or the run is about to be stopped.
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
  /// Replaces the file by the stages that have ended and this stage's state. Where it cannot be written, the
  /// run continues with a warning and saves nothing more.
  void save(const Json& state, const std::vector<Array>& arrays);
  /// This run keeps nothing from here on: a warning says why. Throws the error again where it is not
  /// Exit::output.
  void give_up(const Error& why);
  /// What an earlier run kept cannot be used: a warning says why, and this run begins anew. Throws the error
  /// again where it is not Exit::input, and with Resume::must.
  void begin_anew(const Error& why);
  /// The stage has ended with this state, a copy of which stands in every later save().
  void end(const Json& state, const std::vector<Array>& arrays);
  /// Removes the file: the output is complete.
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
  std::optional<OutputFile> next_;  // empty: nothing more is saved
  Clock::time_point last_;
  size_t n_begun_ = 0;  // stages; ended_ holds all but the last, and the last once it has ended
  Json ended_ = Json::array();
  std::string ended_bytes_;
};

}  // namespace blockgtq
