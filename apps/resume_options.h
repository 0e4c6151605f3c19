#pragma once
#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "base/resume_file.h"
#include "session.h"

namespace blockgtq {

/// --resume auto|never|must: what it holds afterwards is for resume_mode. what: is gone on with.
void add_resume_option(CLI::App& command, std::string& resume, const std::string& what);
Resume resume_mode(const std::string& resume);

/// --resume and --checkpoint-seconds of commands that keep OUTPUT.resume while they run.
struct ResumeOptions {
  std::string resume = "auto";
  double seconds = 20;
};
void add_resume_options(CLI::App& command, ResumeOptions& options,
                        const std::string& what =
                            "Go on with what a killed run left beside the output, as "
                            "OUTPUT.resume: auto, never, must");

/// The options of a command that its output depends on, by name, as they were given; of a file that is read,
/// the digest. Not the model, the text and what is computed on: session_fields has them.
Json option_fields(const CLI::App& command);
/// Everything that a session's numbers and provenance depend on. Waits for the fingerprint of the weights.
Json session_fields(const Session& session);

/// What a command keeps its stages in.
struct Stages {
  ResumeFile* file = nullptr;         // null: nothing is kept
  const CLI::App* command = nullptr;  // null: its options make no difference

  /// Begins the next stage, which depends on the command's options and the session, and lasts no longer than
  /// that. Returns the file.
  ResumeFile* begin(const std::string& stage, const Session& session) const;
};

/// The file to go on with beside `output`; null where that is empty, for there is nothing to resume then
/// (Exit::usage where it must).
std::unique_ptr<ResumeFile> open_resume(const std::string& output, const ResumeOptions& options,
                                        const GlobalOptions& global, Progress& progress);

}  // namespace blockgtq
