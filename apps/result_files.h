#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"

namespace blockgtq {

/// What a command leaves by --json FILE|-, --csv FILE|-, --md FILE|- and --html FILE|-, and what it prints.
/// Files come first and appear together or not at all, then standard output: an hour's work is not lost to a
/// closed pipe.
class ResultFiles {
 public:
  /// Begins the files, so that a long run fails at its start. A name may be empty, and one of them "-"
  /// (Exit::usage for two): standard output, in place of what is printed for a reader.
  ResultFiles(const std::string& json, const std::string& csv, const std::string& markdown, bool force,
              const std::string& html = "");
  explicit ResultFiles(const std::string& json, bool force) : ResultFiles(json, "", "", force) {}

  /// The first one, beside which a run keeps what it goes on with; empty: there is none.
  std::string first() const { return all_.empty() ? "" : all_[0]->target().string(); }
  /// The command's own output, written by whoever made it, appears with them.
  void include(OutputFile& output) { all_.push_back(&output); }
  /// Text for what was asked for. Standard output gets what "-" was given for, else `text`. Exit::output.
  /// html: makes the page where one was asked for.
  void write(const Json& json, const std::string& csv, const std::string& markdown, const std::string& text,
             const std::function<std::string()>& html = {});
  void write(const Json& json, const std::string& text) { write(json, "", "", text); }

 private:
  enum class Printed { text, json, csv, markdown, html };
  std::unique_ptr<OutputFile> begin(const std::string& name, Printed kind, bool force);

  Printed printed_ = Printed::text;
  std::vector<OutputFile*> all_;
  std::unique_ptr<OutputFile> json_, csv_, markdown_, html_;
};

}  // namespace blockgtq
