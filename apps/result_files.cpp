#include "result_files.h"

#include "base/error.h"
#include "options.h"

namespace blockgtq {

ResultFiles::ResultFiles(const std::string& json, const std::string& csv, const std::string& markdown,
                         bool force)
    : json_(begin(json, Printed::json, force)),
      csv_(begin(csv, Printed::csv, force)),
      markdown_(begin(markdown, Printed::markdown, force)) {}

std::unique_ptr<OutputFile> ResultFiles::begin(const std::string& name, Printed kind, bool force) {
  if (name.empty()) return nullptr;
  if (name == "-") {
    if (printed_ != Printed::text)
      throw Error(Exit::usage, "of --json, --csv and --md two are '-': standard output takes one");
    printed_ = kind;
    return nullptr;
  }
  auto file = std::make_unique<OutputFile>(name, force);
  all_.push_back(file.get());
  return file;
}

void ResultFiles::write(const Json& json, const std::string& csv, const std::string& markdown,
                        const std::string& text) {
  if (json_) json_->write(dump_json(json));
  if (csv_) csv_->write(csv);
  if (markdown_) markdown_->write(markdown);
  commit_all(all_);
  write_stdout(printed_ == Printed::json       ? dump_json(json)
               : printed_ == Printed::csv      ? csv
               : printed_ == Printed::markdown ? markdown
                                               : text);
}

}  // namespace blockgtq
