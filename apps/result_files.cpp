#include "result_files.h"

#include "options.h"

namespace blockgtq {

ResultFiles::ResultFiles(const std::string& json, const std::string& csv, const std::string& markdown,
                         bool force)
    : json_to_stdout_(json == "-"),
      json_(begin(json_to_stdout_ ? "" : json, force)),
      csv_(begin(csv, force)),
      markdown_(begin(markdown, force)) {}

std::unique_ptr<OutputFile> ResultFiles::begin(const std::string& name, bool force) {
  if (name.empty()) return nullptr;
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
  write_stdout(json_to_stdout_ ? dump_json(json) : text);
}

}  // namespace blockgtq
