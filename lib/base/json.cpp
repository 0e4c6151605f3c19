#include "base/json.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <nlohmann/json.hpp>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"

namespace blockgtq {
namespace {

/// Where the parser is, and how far it may read before the next event. The limit matters because the parser
/// keeps several copies of a token, and an error's text holds more.
struct Reach {
  const char* seen;
  const char* limit;
  const char* end;  // of the text
  void extend() { limit = size_t(end - seen) > kMaxJsonToken ? seen + kMaxJsonToken : end; }
};
struct TokenTooLong {};

/// Walks the text for the parser and keeps its position where the handler can see it. The parser itself tells
/// the position only with its own errors.
class Cursor {
 public:
  using iterator_category = std::forward_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  Cursor() = default;
  Cursor(const char* at, Reach* reach) : at_(at), reach_(reach) {}
  reference operator*() const { return *at_; }
  Cursor& operator++() {
    reach_->seen = ++at_;
    if (at_ > reach_->limit) throw TokenTooLong{};
    return *this;
  }
  Cursor operator++(int) {
    Cursor before = *this;
    ++*this;
    return before;
  }
  bool operator==(const Cursor& o) const { return at_ == o.at_; }

 private:
  const char* at_ = nullptr;
  Reach* reach_ = nullptr;
};

/// "line 3, column 7" of a place in the text; columns count characters.
std::string place(std::string_view text, size_t at) {
  at = std::min(at, text.size());
  const std::string_view before = text.substr(0, at);
  const auto lines = std::count(before.begin(), before.end(), '\n');
  const size_t start = before.rfind('\n') == before.npos ? 0 : before.rfind('\n') + 1;
  const auto columns = std::count_if(before.begin() + std::ptrdiff_t(start), before.end(),
                                     [](char c) { return (uint8_t(c) & 0xc0) != 0x80; });
  return fmt::format("line {}, column {}", lines + 1, columns + 1);
}

/// The parser's own text without its prefix and without the token that it read, which may be megabytes.
std::string reason(std::string what) {
  if (const size_t p = what.find("] "); p != what.npos) what.erase(0, p + 2);
  if (what.starts_with("parse error at ")) {
    if (const size_t p = what.find(": "); p != what.npos) what.erase(0, p + 2);
  }
  if (const size_t p = what.find("; last read: "); p != what.npos) what.erase(p);
  constexpr size_t kLongest = 160;
  if (what.size() > kLongest) what = what.substr(0, kLongest) + "...";
  return what;
}

std::string quoted(const std::string& key) {
  constexpr size_t kLongest = 80;
  std::string text = Json(key.substr(0, kLongest + 1)).dump(-1, ' ', true, Json::error_handler_t::replace);
  return text.size() > kLongest ? text.substr(0, kLongest) + "..." : text;
}

/// Builds the value from the parser's events. The members of an open object are kept in our own vector and
/// moved into the object when it closes. ordered_json would search all members for each key, and copy its
/// members whenever it grows (their keys are const), also those of a vocabulary of 150,000 entries.
class Builder {
 public:
  Builder(std::string_view text, Reach& reach, const std::string& name, size_t max_values)
      : text_(text), reach_(reach), name_(name), max_values_(max_values) {}

  bool null() { return add(Json(nullptr)); }
  bool boolean(bool v) { return add(Json(v)); }
  bool number_integer(Json::number_integer_t v) { return add(Json(v)); }
  bool number_unsigned(Json::number_unsigned_t v) { return add(Json(v)); }
  bool number_float(Json::number_float_t v, const std::string&) { return add(Json(v)); }
  bool string(std::string& v) { return add(Json(std::move(v))); }
  bool binary(Json::binary_t&) { return false; }  // no text makes this event
  bool start_object(size_t) { return open(true); }
  bool start_array(size_t) { return open(false); }

  bool key(std::string& k) {
    reach_.extend();
    open_.back().members.push_back({std::move(k), Json(), reach_.seen});
    return true;
  }

  bool end_object() {
    std::vector<Member> members = std::move(open_.back().members);
    open_.pop_back();
    refuse_duplicates(members);
    Json::object_t object;
    object.reserve(members.size());
    for (Member& m : members) {
      // The vector's own insertion, because ordered_map's would search all keys before it.
      static_cast<Json::object_t::Container&>(object).emplace_back(std::move(m.key), std::move(m.value));
    }
    return add(Json(std::move(object)));
  }

  bool end_array() {
    Json::array_t items = std::move(open_.back().items);
    open_.pop_back();
    return add(Json(std::move(items)));
  }

  // position counts the bytes read, including the offending one.
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& e) {
    fail_input("{}: not valid JSON: {}: {}", name_, place(text_, position == 0 ? 0 : position - 1),
               reason(e.what()));
  }

  Json take() { return std::move(root_); }

 private:
  struct Member {
    std::string key;
    Json value;
    const char* end;  // of the key in the text, behind its closing quote
  };
  struct Open {
    bool is_object;
    std::vector<Member> members;
    Json::array_t items;
  };

  // Values are what takes memory: a pair of empty brackets takes 20 times its length.
  bool add(Json&& value) {
    reach_.extend();
    if (++values_ > max_values_) {
      fail_input("{}: too many JSON values: {}: more than {}", name_,
                 place(text_, size_t(reach_.seen - text_.data()) - 1), max_values_);
    }
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (open_.back().is_object) {
      open_.back().members.back().value = std::move(value);
    } else {
      open_.back().items.push_back(std::move(value));
    }
    return true;
  }

  bool open(bool is_object) {
    reach_.extend();
    if (open_.size() == size_t(kMaxJsonDepth)) {
      fail_input("{}: JSON nested too deep: {}: more than {} levels", name_,
                 place(text_, size_t(reach_.seen - text_.data()) - 1), kMaxJsonDepth);
    }
    open_.push_back({is_object, {}, {}});
    return true;
  }

  void refuse_duplicates(const std::vector<Member>& members) const {
    constexpr size_t kFew = 16;  // up to so many keys, comparing all pairs is faster than a hash table
    std::unordered_set<std::string_view> seen;
    if (members.size() > kFew) seen.reserve(members.size());
    for (size_t i = 0; i < members.size(); ++i) {
      bool again = false;
      if (members.size() > kFew) {
        again = !seen.insert(members[i].key).second;
      } else {
        for (size_t j = 0; j < i && !again; ++j) again = members[j].key == members[i].key;
      }
      if (again) {
        fail_input("{}: duplicate JSON key: {}: {}", name_,
                   place(text_, size_t(members[i].end - text_.data()) - 1), quoted(members[i].key));
      }
    }
  }

  std::string_view text_;
  Reach& reach_;
  const std::string& name_;
  size_t max_values_, values_ = 0;
  std::vector<Open> open_;
  Json root_;
};

}  // namespace

Json parse_json(std::string_view text, const std::string& name, size_t max_values) {
  if (text.starts_with("\xef\xbb\xbf")) {
    fail_input("{}: not valid JSON: line 1, column 1: a byte order mark", name);
  }
  // nlohmann's lexer takes a zero byte for the end of the input and would accept whatever follows.
  if (const size_t zero = text.find('\0'); zero != text.npos) {
    fail_input("{}: not valid JSON: {}: a zero byte", name, place(text, zero));
  }
  Reach reach{text.data(), nullptr, text.data() + text.size()};
  reach.extend();
  Builder builder(text, reach, name, max_values);
  const Cursor first(text.data(), &reach), last(text.data() + text.size(), &reach);
  try {
    check(Json::sax_parse(first, last, &builder), "the JSON parser stopped without an error");
  } catch (const TokenTooLong&) {
    fail_input("{}: JSON token too long: {}: more than {} bytes", name,
               place(text, size_t(reach.seen - text.data()) - 1), kMaxJsonToken);
  }
  return builder.take();
}

Json read_json(const std::filesystem::path& path, size_t max_bytes) {
  return parse_json(read_text(path, max_bytes), path.string());
}

}  // namespace blockgtq
