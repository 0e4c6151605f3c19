#include "markup.h"

#include <cctype>
#include <set>
#include <vector>

namespace {

/// One pass over the markup; `error` is set at the first fault.
class Scanner {
 public:
  explicit Scanner(const std::string& markup) : s_(markup) {}
  std::string error, text;

  void run() {
    while (error.empty() && at_ < s_.size()) {
      if (s_.compare(at_, 9, "<!DOCTYPE") == 0) {
        at_ = s_.find('>', at_) + 1;
      } else if (s_[at_] == '<') {
        tag();
      } else {
        character(open_.empty() || (open_.back() != "style" && open_.back() != "script"));
      }
    }
    if (error.empty() && !open_.empty()) fail("never closed: " + open_.back());
  }

 private:
  void fail(const std::string& what) {
    if (error.empty()) error = what + " at byte " + std::to_string(at_) + ": " + s_.substr(at_, 60);
  }

  void character(bool keep) {
    if (s_[at_] == '&') {
      bool known = false;
      for (const char* entity : {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"})
        known |= s_.compare(at_, std::string(entity).size(), entity) == 0;
      if (!known) return fail("a bare &");
    }
    if ((unsigned char)s_[at_] < 0x20 && s_[at_] != '\n') return fail("a control character");
    if (keep) text += s_[at_];
    ++at_;
  }

  std::string name() {
    const size_t start = at_;
    while (at_ < s_.size() && (std::isalnum((unsigned char)s_[at_]) || s_[at_] == '-' || s_[at_] == ':'))
      ++at_;
    if (at_ == start) fail("a name wanted");
    return s_.substr(start, at_ - start);
  }

  void tag() {
    ++at_;
    const bool closing = s_[at_] == '/';
    if (closing) ++at_;
    const std::string element = name();
    if (closing) {
      if (open_.empty() || open_.back() != element) return fail("closes what is not open: " + element);
      open_.pop_back();
      if (s_[at_++] != '>') fail("> wanted");
      return;
    }
    std::set<std::string> seen;
    while (error.empty() && s_[at_] == ' ') {
      ++at_;
      if (!seen.insert(name()).second) return fail("an attribute twice");
      if (s_.compare(at_, 2, "=\"") != 0) return fail("=\" wanted");
      at_ += 2;
      while (error.empty() && at_ < s_.size() && s_[at_] != '"') {
        if (s_[at_] == '<') return fail("< in an attribute");
        character(false);
      }
      ++at_;
    }
    if (s_.compare(at_, 2, "/>") == 0) {
      at_ += 2;
    } else if (s_[at_] == '>') {
      ++at_;
      open_.push_back(element);
    } else {
      fail("the end of a tag wanted");
    }
  }

  const std::string& s_;
  size_t at_ = 0;
  std::vector<std::string> open_;
};

}  // namespace

std::string markup_error(const std::string& markup, std::string* text) {
  Scanner scanner(markup);
  scanner.run();
  if (text) *text = scanner.text;
  return scanner.error;
}

size_t count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++n;
  return n;
}
