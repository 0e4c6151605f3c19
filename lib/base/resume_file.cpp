#include "base/resume_file.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/sha256.h"
#include "base/stop.h"

namespace blockgtq {
namespace {

constexpr const char* kSchema = "blockgtq.resume/1";
constexpr size_t kDigestBytes = 64;

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

bool is_stage(const Json& stage) {
  if (!stage.is_object()) return false;
  for (const char* name : {"signature", "state", "arrays"})
    if (!stage.contains(name) || !stage[name].is_object()) return false;
  return true;
}

}  // namespace

ResumeFile::ResumeFile(const fs::path& output, Resume mode, double seconds, Progress& progress)
    : path_(output.string() + ".resume"), seconds_(seconds), progress_(progress), last_(Clock::now()) {
  next_.emplace(path_, true);
  if (mode == Resume::never) return;
  std::error_code error;
  if (!fs::exists(path_, error)) {
    if (mode == Resume::must) fail_input("{}: no file to resume from", path_.string());
    return;
  }
  try {
    loaded_ = read();
  } catch (const Error& e) {
    if (mode == Resume::must || e.code != Exit::input) throw;
    progress_.warn(fmt::format("{}: computed anew", e.what()));
  }
}

/// Exit::input where the file is not as it was written.
ResumeFile::Loaded ResumeFile::read() const {
  const auto damaged = [&] { fail_input("{}: not as it was written", path_.string()); };
  Loaded loaded{MappedFile(path_), {}, {}};
  const std::string_view text = loaded.file.text();
  const size_t line = text.find('\n');
  if (line == std::string_view::npos || text.size() < line + 1 + kDigestBytes) damaged();
  const std::string_view body = text.substr(0, text.size() - kDigestBytes);
  if (sha256_hex(body) != text.substr(body.size())) damaged();
  const Json head = parse_json(body.substr(0, line), path_.string());
  if (!head.is_object() || !head.contains("schema") || head["schema"] != kSchema || !head.contains("stages"))
    fail_input("{}: not a file of schema {}", path_.string(), kSchema);
  loaded.stages = head["stages"];
  std::span<const std::byte> rest = loaded.file.bytes().subspan(line + 1, body.size() - line - 1);
  for (const Json& stage : loaded.stages) {
    if (!is_stage(stage)) damaged();
    auto& arrays = loaded.arrays.emplace_back();
    for (const auto& [name, bytes] : stage["arrays"].items()) {
      const size_t n = bytes.is_number_unsigned() ? bytes.get<size_t>() : SIZE_MAX;
      if (n > rest.size()) damaged();
      arrays.emplace_back(name, rest.first(n));
      rest = rest.subspan(n);
    }
  }
  if (!rest.empty()) damaged();
  return loaded;
}

void ResumeFile::begin(const std::string& stage, Signature signature) {
  if (ended_.size() < n_begun_)
    ended_.push_back({{"signature", Json::object()}, {"state", Json::object()}, {"arrays", Json::object()}});
  ++n_begun_;
  signature_ = [stage, signature, made = std::optional<Json>()]() mutable {
    if (!made) {
      made = Json{{"stage", stage}};
      made->update(signature());
    }
    return *made;
  };
  const Json* loaded = loaded_stage();
  if (!loaded || loaded->at("signature").empty()) return;
  if (const std::string what = differences(loaded->at("signature"), signature_()); !what.empty())
    throw ForeignResume(Exit::input, fmt::format("{}: of another run: {}", path_.string(), what),
                        "another output, or --resume never, begins anew");
}

const Json* ResumeFile::loaded_stage() const {
  return loaded_ && n_begun_ > 0 && n_begun_ <= loaded_->stages.size() ? &loaded_->stages[n_begun_ - 1]
                                                                       : nullptr;
}

const Json* ResumeFile::state() const {
  const Json* stage = loaded_stage();
  return stage && !stage->at("state").empty() ? &stage->at("state") : nullptr;
}

std::span<const std::byte> ResumeFile::find(const std::string& name, size_t n_bytes) const {
  check(loaded_stage(), "an array of no state");
  for (const auto& [key, bytes] : loaded_->arrays[n_begun_ - 1]) {
    if (key != name) continue;
    if (bytes.size() != n_bytes)
      fail_input("{}: {}: {} bytes, expected {}", path_.string(), name, bytes.size(), n_bytes);
    return bytes;
  }
  fail_input("{}: {}: missing", path_.string(), name);
}

bool ResumeFile::due() const {
  return next_ && (stop_pending() || std::chrono::duration<double>(Clock::now() - last_).count() >= seconds_);
}

Json ResumeFile::describe(const Json& state, const std::vector<Array>& arrays) {
  Json sizes = Json::object();
  for (const Array& array : arrays) sizes[array.name] = array.bytes.size();
  check(sizes.size() == arrays.size(), "an array's name comes twice");
  return {{"signature", signature_()}, {"state", state}, {"arrays", std::move(sizes)}};
}

void ResumeFile::save(const Json& state, const std::vector<Array>& arrays) {
  if (!next_) return;
  loaded_.reset();
  Json stages = ended_;
  stages.push_back(describe(state, arrays));
  const Json head = {{"schema", kSchema}, {"stages", std::move(stages)}};
  try {
    Sha256 digest;
    const auto write = [&](std::string_view text) {
      digest.update(text);
      next_->write(text);
    };
    write(head.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
    write(ended_bytes_);
    for (const Array& array : arrays) write(text_of(array.bytes));
    next_->write(digest.hex());
    next_->commit();
    next_.emplace(path_, true);
  } catch (const Error& e) {
    if (e.code != Exit::output) throw;
    next_.reset();
    progress_.warn(fmt::format("{}: nothing to resume from is kept from here on", e.what()));
  }
  last_ = Clock::now();
}

void ResumeFile::end(const Json& state, const std::vector<Array>& arrays) {
  ended_.push_back(describe(state, arrays));
  for (const Array& array : arrays) ended_bytes_ += text_of(array.bytes);
}

void ResumeFile::remove() {
  next_.reset();
  std::error_code error;
  fs::remove(path_, error);
}

}  // namespace blockgtq
