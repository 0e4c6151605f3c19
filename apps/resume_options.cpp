#include "resume_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <span>
#include <sstream>

#include "base/error.h"
#include "base/sha256.h"

namespace blockgtq {
namespace {

/// Where results go and how, and what session_fields says better.
constexpr const char* kLeftOut[] = {"help",
                                    "model",
                                    "file",
                                    "ids",
                                    "device",
                                    "dtype",
                                    "output",
                                    "json",
                                    "csv",
                                    "md",
                                    "html",
                                    "chart",
                                    "force",
                                    "fail-if",
                                    "resume",
                                    "part",
                                    "checkpoint-seconds"};
constexpr const char* kFiles[] = {"map", "calibration", "panel", "activations"};

bool one_of(std::span<const char* const> names, const std::string& name) {
  return std::any_of(names.begin(), names.end(), [&](const char* one) { return name == one; });
}

}  // namespace

void add_resume_option(CLI::App& command, std::string& resume, const std::string& what) {
  command.add_option("--resume", resume, what)
      ->check(CLI::IsMember({"auto", "never", "must"}))
      ->capture_default_str();
}

Resume resume_mode(const std::string& resume) {
  return resume == "auto" ? Resume::automatic : resume == "never" ? Resume::never : Resume::must;
}

void add_resume_options(CLI::App& command, ResumeOptions& o, const std::string& what) {
  add_resume_option(command, o.resume, what);
  command
      .add_option("--checkpoint-seconds", o.seconds,
                  "Write OUTPUT.resume after so many seconds, and then as often; 0: as often as there is "
                  "something new")
      ->check(in_range(0.0, 1e6))
      ->capture_default_str();
}

Json option_fields(const CLI::App& command) {
  Json fields = {{"blockgtq", BLOCKGTQ_VERSION}, {"command", command.get_name()}};
  for (const CLI::Option* option : command.get_options()) {
    const std::string name = option->get_lnames().empty() ? option->get_name() : option->get_lnames().front();
    if (one_of(kLeftOut, name)) continue;
    const auto values = option->count() > 0 ? option->results() : std::vector{option->get_default_str()};
    std::string text = fmt::format("{}", fmt::join(values, " "));
    if (text.empty()) continue;
    if (one_of(kFiles, name) && text != "-") text = sha256_hex(MappedFile(text).text());
    fields[option->get_lnames().empty() ? name : "--" + name] = text;
  }
  return fields;
}

Json session_fields(const Session& session) {
  Json fields = Json::object();
  for (const auto& [name, value] : session.provenance()) fields[name] = value;
  std::istringstream facts(session.facts);
  for (std::string line; std::getline(facts, line);)
    fields[line.substr(0, line.find(' '))] = line.substr(line.find(' ') + 1);
  const std::vector<int32_t>& ids = session.corpus.ids;
  fields["chunks"] =
      fmt::format("{} to {} of {}", session.first_chunk,
                  session.first_chunk + (session.n_tokens() - 1) / session.chunk, session.run_chunks);
  fields["parts"] = session.n_parts;
  fields["ids"] = sha256_hex({reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(int32_t)});
  fields["device"] = session.device;
  return fields;
}

ResumeFile* Stages::begin(const std::string& stage, const Session& session) const {
  if (file)
    file->begin(stage, [this_command = command, &session] {
      Json fields = this_command ? option_fields(*this_command) : Json{{"blockgtq", BLOCKGTQ_VERSION}};
      fields.update(session_fields(session));
      return fields;
    });
  return file;
}

std::unique_ptr<ResumeFile> open_resume(const std::string& output, const ResumeOptions& options,
                                        const GlobalOptions& global, Progress& progress) {
  const Resume mode = resume_mode(options.resume);
  if (output.empty()) {
    if (mode == Resume::must)
      throw Error(Exit::usage, "--resume must: no output file, so that there is nothing to resume");
    return nullptr;
  }
  auto resume = std::make_unique<ResumeFile>(output, mode, options.seconds, progress);
  if (resume->found()) global.say(fmt::format("{}: goes on from here", resume->path().string()));
  return resume;
}

}  // namespace blockgtq
