#include "config_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <functional>
#include <numeric>
#include <set>
#include <toml.hpp>
#include <tuple>

#include "base/error.h"

namespace blockgtq {
namespace {

constexpr size_t kMaxConfigFileBytes = 64 << 10;  // the library counts lines from the start for every value
constexpr int kMaxNesting = 64;                   // the parser recurses

std::string hyphenated(std::string name) {
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

/// Insertions, deletions and exchanges between two words, whatever their case.
size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t(0));
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const bool same = std::tolower((unsigned char)a[i]) == std::tolower((unsigned char)b[j]);
      const size_t exchange = diagonal + (same ? 0 : 1);
      diagonal = std::exchange(row[j + 1], std::min({row[j] + 1, row[j + 1] + 1, exchange}));
    }
  }
  return row.back();
}

std::string nearest(const std::string& word, const std::vector<std::string>& names) {
  return *std::min_element(names.begin(), names.end(), [&](const std::string& a, const std::string& b) {
    return edit_distance(word, a) < edit_distance(word, b);
  });
}

/// What the file may say of an option: not --help, --version and --config.
bool has_variable(const CLI::Option& option) {
  return !option.get_lnames().empty() && option.get_configurable();
}

std::vector<const CLI::Option*> options_of(const CLI::App& command) {
  return command.get_options([](const CLI::Option* option) { return has_variable(*option); });
}

const CLI::Option* find_option(const CLI::App& command, const std::string& name) {
  for (const CLI::Option* option : options_of(command))
    for (const auto* names : {&option->get_lnames(), &option->get_snames()})
      if (std::find(names->begin(), names->end(), name) != names->end()) return option;
  return nullptr;
}

const CLI::App* find_command(const CLI::App& command, const std::string& name) {
  for (const CLI::App* sub : command.get_subcommands([](const CLI::App*) { return true; }))
    if (sub->get_name() == name) return sub;
  return nullptr;
}

bool is_flag(const CLI::Option& option) {
  return option.get_expected_min() == 0;
}

/// A command has a flag of this name, or an option of this name that takes a value.
bool has_kind(const CLI::App& command, const std::string& name, bool flag) {
  const CLI::Option* option = find_option(command, name);
  if (option && is_flag(*option) == flag) return true;
  const auto subs = command.get_subcommands([](const CLI::App*) { return true; });
  return std::any_of(subs.begin(), subs.end(),
                     [&](const CLI::App* sub) { return has_kind(*sub, name, flag); });
}

/// The variable of an option: BLOCKGTQ_TOKENS. What is a flag in one command and takes a value in another
/// cannot have one for both, and has the command's name in it: BLOCKGTQ_CALIBRATE_CHOOSE.
std::string variable_of(const CLI::App& command, const CLI::Option& option) {
  const std::string& name = option.get_lnames()[0];
  const CLI::App* all = &command;
  while (all->get_parent()) all = all->get_parent();
  const bool shared = !has_kind(*all, name, !is_flag(option));
  std::string variable = "BLOCKGTQ_" + (shared ? "" : command.get_name() + "-") + name;
  std::transform(variable.begin(), variable.end(), variable.begin(),
                 [](unsigned char c) { return c == '-' ? '_' : std::toupper(c); });
  return variable;
}

/// [bench.attention]
std::string section_of(const std::vector<std::string>& parents) {
  return fmt::format("[{}]", fmt::join(parents, "."));
}

struct Place {
  size_t line = 0, column = 0, length = 0;  // from 1, in bytes
};

/// toml11 3 and 4 say it in different words.
template <class Location>
Place place_at(const Location& location) {
  if constexpr (requires { location.region(); })
    return {location.line(), location.column(), location.region()};
  else
    return {location.first_line_number(), location.first_column_number(), location.length()};
}

/// A syntax error's line and text. What the library says is several lines that draw the place.
template <class SyntaxError>
std::string syntax_text(const SyntaxError& e) {
  Place place;
  std::string text;
  if constexpr (requires { e.errors(); }) {
    text = e.errors().front().title();
    place = place_at(e.errors().front().locations().front().first);
  } else {
    text = e.what();
    place = place_at(e.location());
  }
  text.resize(std::min(text.size(), text.find('\n')));
  for (const char* prefix : {"[error] ", "toml::"})
    if (text.starts_with(prefix)) text.erase(0, std::string(prefix).size());
  return fmt::format("line {}: not TOML: {}", place.line, text);
}

/// One reading of one file.
class Reader {
 public:
  Reader(const CLI::App& app, std::string file, std::string text, std::map<std::string, std::string>& origins)
      : app_(app), file_(std::move(file)), text_(std::move(text)), origins_(origins) {
    for (size_t i = 0; i < text_.size(); ++i)
      if (text_[i] == '\n') line_begins_.push_back(i + 1);
  }

  std::vector<CLI::ConfigItem> read() {
    if (text_.size() > kMaxConfigFileBytes)
      throw Error(Exit::usage,
                  fmt::format("{}: file too large: more than {} bytes", file_, kMaxConfigFileBytes));
    int depth = 0;
    for (char c : text_) {
      depth += (c == '[' || c == '{') - (c == ']' || c == '}');
      if (depth > kMaxNesting)
        throw Error(Exit::usage,
                    fmt::format("{}: not TOML: more than {} brackets are open", file_, kMaxNesting));
    }
    read_table(parse(), app_, {});
    return std::move(items_);
  }

 private:
  [[noreturn]] void fail(const toml::value& value, const std::string& what) const {
    throw Error(Exit::usage, fmt::format("{}: {}", place_text(value), what));
  }

  std::string place_text(const toml::value& value) const {
    return fmt::format("{}: line {}", file_, place_at(value.location()).line);
  }

  toml::value parse() const {
    std::istringstream in(text_);
    try {
      return toml::parse(in, file_);
    } catch (const toml::syntax_error& e) {
      throw Error(Exit::usage, fmt::format("{}: {}", file_, syntax_text(e)));
    } catch (const std::exception& e) {
      const std::string text = e.what();
      throw Error(Exit::usage, fmt::format("{}: not TOML: {}", file_, text.substr(0, text.find('\n'))));
    }
  }

  void read_table(const toml::value& table, const CLI::App& command,
                  const std::vector<std::string>& parents) {
    // In the order of the file, so that the first mistake is the one that is told.
    std::vector<std::tuple<size_t, std::string, const toml::value*>> entries;  // with their lines
    for (const auto& [key, value] : table.as_table())
      entries.emplace_back(place_at(value.location()).line, key, &value);
    std::sort(entries.begin(), entries.end());
    std::set<std::string> seen;
    for (const auto& [line, key, value] : entries) {
      const std::string name = hyphenated(key);
      if (!seen.insert(name).second) fail(*value, fmt::format("'{}' is given twice", name));
      if (value->is_table())
        read_section(name, key, *value, command, parents);
      else
        read_option(name, key, *value, command, parents);
    }
  }

  void read_section(const std::string& name, const std::string& key, const toml::value& value,
                    const CLI::App& command, std::vector<std::string> parents) {
    const CLI::App* sub = find_command(command, name);
    parents.push_back(sub ? name : key);
    if (sub) return read_table(value, *sub, parents);
    std::vector<std::string> names;
    for (const CLI::App* known : command.get_subcommands([](const CLI::App*) { return true; }))
      names.push_back(known->get_name());
    std::string what = fmt::format("unknown section {}", section_of(parents));
    if (!names.empty()) {
      parents.back() = nearest(key, names);
      what += fmt::format(", the nearest is {}", section_of(parents));
    }
    fail(value, what);
  }

  void read_option(const std::string& name, const std::string& key, const toml::value& value,
                   const CLI::App& command, const std::vector<std::string>& parents) {
    const CLI::Option* option = find_option(command, name);
    if (!option) fail_unknown(name, key, value, command, parents);
    std::vector<std::string> inputs = texts(key, value, *option);
    const char* set = std::getenv(variable_of(command, *option).c_str());
    if (command.parsed() == 0 || option->count() > 0 || (set && *set)) return;
    origins_[option->get_name()] = place_text(value);
    items_.emplace_back();
    items_.back().parents = parents;
    items_.back().name = name;
    items_.back().inputs = std::move(inputs);
  }

  [[noreturn]] void fail_unknown(const std::string& name, const std::string& key, const toml::value& value,
                                 const CLI::App& command, const std::vector<std::string>& parents) const {
    if (!parents.empty() && find_option(app_, name))
      fail(value,
           fmt::format("'{}' is an option of all commands: it stands at the top, before every [section]",
                       key));
    std::vector<std::string> names;
    if (parents.empty())
      for (const CLI::App* sub : app_.get_subcommands([](const CLI::App*) { return true; })) {
        if (find_option(*sub, name))
          fail(value, fmt::format("'{}' stands outside of any section: it belongs to a command, as in [{}]",
                                  key, sub->get_name()));
      }
    for (const CLI::Option* option : options_of(command))
      names.insert(names.end(), option->get_lnames().begin(), option->get_lnames().end());
    const std::string of = parents.empty() ? "at the top" : "in " + section_of(parents);
    if (names.empty()) fail(value, fmt::format("unknown key '{}' {}", key, of));
    fail(value, fmt::format("unknown key '{}' {}, the nearest is '{}'", key, of, nearest(name, names)));
  }

  /// What the value would be on the command line: a list for an option that may be repeated, one text with
  /// commas for one that takes a list ("2,3").
  std::vector<std::string> texts(const std::string& key, const toml::value& value,
                                 const CLI::Option& option) const {
    const bool flag = is_flag(option);
    if (flag && !value.is_boolean() && !value.is_integer())
      fail(value, fmt::format("'{}' is on or off: true or false is expected", key));
    if (!flag && value.is_boolean())
      fail(value, fmt::format("'{}' takes a value: {} is none", key, raw(value)));
    if (!value.is_array()) return {scalar(key, value)};
    std::vector<std::string> parts;
    for (const toml::value& part : value.as_array()) {
      if (part.is_boolean())
        fail(value, fmt::format("'{}' takes a list of values: {} is none", key, raw(part)));
      parts.push_back(scalar(key, part));
    }
    if (parts.empty()) fail(value, fmt::format("'{}': the list is empty", key));
    if (option.get_items_expected_max() > 1) return parts;
    return {fmt::format("{}", fmt::join(parts, ","))};
  }

  std::string scalar(const std::string& key, const toml::value& value) const {
    if (value.is_string()) return std::string(toml::get<std::string>(value));
    if (!value.is_integer() && !value.is_floating() && !value.is_boolean())
      fail(value, fmt::format("'{}': a text, a number or true and false are expected", key));
    return raw(value);
  }

  /// A number as it is written, so that it is read by one rule wherever it comes from; without TOML's marks
  /// between digits.
  std::string raw(const toml::value& value) const {
    const Place place = place_at(value.location());
    std::string text = text_.substr(line_begins_[place.line - 1] + place.column - 1, place.length);
    std::erase(text, '_');
    return text;
  }

  const CLI::App& app_;
  const std::string file_, text_;
  std::vector<size_t> line_begins_ = {0};
  std::map<std::string, std::string>& origins_;
  std::vector<CLI::ConfigItem> items_;
};

void set_variables(CLI::App& app) {
  for (CLI::Option* option : app.get_options())
    if (has_variable(*option)) option->envname(variable_of(app, *option));
}

/// A command has its variables from where it is parsed: CLI11 reads those of all commands, and what is right
/// for one may be out of another's range.
void set_variables_when_parsed(CLI::App& app) {
  for (CLI::App* command : app.get_subcommands({})) {
    command->preparse_callback([command](size_t) { set_variables(*command); });
    set_variables_when_parsed(*command);
  }
}

}  // namespace

std::vector<CLI::ConfigItem> ConfigFile::from_config(std::istream& in) const {
  std::string text(kMaxConfigFileBytes + 1, '\0');
  in.read(text.data(), std::streamsize(text.size()));
  text.resize(size_t(in.gcount()));
  const std::string file = app_.get_config_ptr()->results().back();
  return Reader(app_, file == "-" ? "standard input" : file, text, origins_).read();
}

std::string ConfigFile::origin(const std::string& option) const {
  const auto found = origins_.find(option);
  return found == origins_.end() ? "" : found->second;
}

void require_environment(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) {
    if (option->count() > 0 || !has_variable(*option)) continue;
    const char* value = std::getenv(variable_of(app, *option).c_str());
    if (!value || !*value) continue;
    option->add_result(value);
    option->run_callback();  // throws what is wrong with it
  }
  for (CLI::App* command : app.get_subcommands()) require_environment(*command);
}

void name_variables(CLI::App& app) {
  set_variables(app);
  for (CLI::App* command : app.get_subcommands({})) name_variables(*command);
}

const ConfigFile& add_environment_and_config(CLI::App& app) {
  const auto file = std::make_shared<ConfigFile>(app);
  app.config_formatter(file);
  app.set_config("--config", "",
                 "Options from a TOML file: those of all commands at the top, then [command] sections")
      ->transform([](const std::string& file) { return file == "-" ? "/dev/stdin" : file; });
  set_variables(app);
  set_variables_when_parsed(app);
  return *file;
}

}  // namespace blockgtq
