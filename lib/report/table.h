#pragma once
#include <string>
#include <vector>

namespace blockgtq {

/// A table of text cells, rendered for a terminal, Markdown, CSV (RFC 4180) or a page. Columns of numbers
/// (every cell but the header starts with a digit, sign or is empty) are set to the right.
class Table {
 public:
  explicit Table(std::vector<std::string> header) : header_(std::move(header)) {}
  void row(std::vector<std::string> cells);  // as many as the header
  std::string text() const;                  // padded with spaces (UTF-8 aware), a rule under the header
  /// The same for a terminal: where lines would be wider than `width` columns (0: no limit) cells of text are
  /// cut, then columns go below each other, behind the first one.
  std::string text(int width) const;
  std::string markdown() const;
  std::string csv() const;
  std::string html(const std::string& label) const;  // a page_table that sorts

 private:
  std::vector<std::string> header_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace blockgtq
