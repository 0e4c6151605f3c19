#include "result_files.h"

#include "base/error.h"
#include "options.h"

namespace blockgtq {

ResultFiles::ResultFiles(const std::string& json, const std::string& csv, const std::string& markdown,
                         bool force, const std::string& html)
    : json_(begin(json, Printed::json, force)),
      csv_(begin(csv, Printed::csv, force)),
      markdown_(begin(markdown, Printed::markdown, force)),
      html_(begin(html, Printed::html, force)) {}

std::unique_ptr<OutputFile> ResultFiles::begin(const std::string& name, Printed kind, bool force) {
  if (name.empty()) return nullptr;
  if (name == "-") {
    if (printed_ != Printed::text)
      throw Error(Exit::usage, "of --json, --csv, --md and --html two are '-': standard output takes one");
    printed_ = kind;
    return nullptr;
  }
  auto file = std::make_unique<OutputFile>(name, force);
  all_.push_back(file.get());
  return file;
}

void ResultFiles::write(const Json& json, const std::string& csv, const std::string& markdown,
                        const std::string& text, const std::function<std::string()>& html) {
  std::string page;
  if (html_ || printed_ == Printed::html) page = html();
  if (json_) json_->write(dump_json(json));
  if (csv_) csv_->write(csv);
  if (markdown_) markdown_->write(markdown);
  if (html_) html_->write(page);
  commit_all(all_);
  write_stdout(printed_ == Printed::json       ? dump_json(json)
               : printed_ == Printed::csv      ? csv
               : printed_ == Printed::markdown ? markdown
               : printed_ == Printed::html     ? page
                                               : text);
}

}  // namespace blockgtq
