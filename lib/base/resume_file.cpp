#include "base/resume_file.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/sha256.h"
#include "base/stop.h"

namespace blockgtq {
namespace {

constexpr const char* kSchema = "blockgtq.resume/1";
constexpr size_t kDigestBytes = 64;

}  // namespace

ResumeFile::ResumeFile(const fs::path& output, Resume mode, double seconds, std::function<Json()> signature,
                       Progress& progress)
    : path_(output.string() + ".resume"),
      seconds_(seconds),
      make_signature_(std::move(signature)),
      progress_(progress) {
  next_.emplace(path_, true);
  load(mode);
  last_ = Clock::now();
}

const Json& ResumeFile::signature() {
  if (!signature_) signature_ = make_signature_();
  return *signature_;
}

void ResumeFile::load(Resume mode) {
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
  if (!loaded_) return;
  if (const std::string what = differences(loaded_->head.at("signature"), signature()); !what.empty())
    throw Error(Exit::input, fmt::format("{}: of another run: {}", path_.string(), what),
                "another output, or --resume never, begins anew");
}

/// Exit::input where it is not as it was written.
ResumeFile::Loaded ResumeFile::read() const {
  const auto damaged = [&] { fail_input("{}: not as it was written", path_.string()); };
  Loaded loaded{MappedFile(path_), {}, {}};
  const std::string_view text = loaded.file.text();
  const size_t line = text.find('\n');
  if (line == std::string_view::npos || text.size() < line + 1 + kDigestBytes) damaged();
  const std::string_view body = text.substr(0, text.size() - kDigestBytes);
  if (sha256_hex(body) != text.substr(body.size())) damaged();
  Json& head = loaded.head = parse_json(body.substr(0, line), path_.string());
  for (const char* name : {"signature", "state", "arrays"})
    if (!head.is_object() || !head.contains("schema") || head["schema"] != kSchema || !head.contains(name) ||
        !head[name].is_object())
      fail_input("{}: not a file of schema {}", path_.string(), kSchema);
  std::span<const std::byte> rest = loaded.file.bytes().subspan(line + 1, body.size() - line - 1);
  for (const auto& [name, bytes] : head["arrays"].items()) {
    const size_t n = bytes.is_number_unsigned() ? bytes.get<size_t>() : SIZE_MAX;
    if (n > rest.size()) damaged();
    loaded.arrays.emplace_back(name, rest.first(n));
    rest = rest.subspan(n);
  }
  if (!rest.empty()) damaged();
  return loaded;
}

std::span<const std::byte> ResumeFile::find(const std::string& name, size_t n_bytes) const {
  check(loaded_.has_value(), "an array of no state");
  for (const auto& [key, bytes] : loaded_->arrays) {
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

void ResumeFile::save(const Json& state, const std::vector<Array>& arrays) {
  if (!next_) return;
  Json sizes = Json::object();
  for (const Array& array : arrays) sizes[array.name] = array.bytes.size();
  const Json head = {
      {"schema", kSchema}, {"signature", signature()}, {"state", state}, {"arrays", std::move(sizes)}};
  try {
    Sha256 digest;
    const auto write = [&](std::string_view text) {
      digest.update(text);
      next_->write(text);
    };
    write(head.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
    for (const Array& array : arrays)
      write({reinterpret_cast<const char*>(array.bytes.data()), array.bytes.size()});
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

void ResumeFile::remove() {
  next_.reset();
  std::error_code error;
  fs::remove(path_, error);
}

}  // namespace blockgtq
