// Models by name: what the Hugging Face library has put into its cache on this machine.
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "hf/checkpoint.h"
#include "hf/config_fields.h"

namespace blockgtq {

namespace {

bool is_folder(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

/// An environment variable as a path, "~" at its start as the home folder; empty when unset.
fs::path path_from(const char* variable) {
  const char* value = std::getenv(variable);
  if (!value || !*value) return {};
  const std::string text = value;
  if (text == "~" || text.rfind("~/", 0) == 0) {
    const char* home = std::getenv("HOME");
    return (home ? std::string(home) : "~") + text.substr(1);
  }
  return text;
}

/// The order in which huggingface_hub looks.
fs::path cache_folder() {
  for (const char* variable : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}) {
    if (const fs::path p = path_from(variable); !p.empty()) return p;
  }
  if (const fs::path p = path_from("HF_HOME"); !p.empty()) return p / "hub";
  if (const fs::path p = path_from("XDG_CACHE_HOME"); !p.empty()) return p / "huggingface" / "hub";
  return path_from("HOME") / ".cache" / "huggingface" / "hub";
}

bool is_word(const std::string& s) {
  constexpr const char* kAllowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
  return !s.empty() && s.size() <= 96 && s.find_first_not_of(kAllowed) == std::string::npos && s[0] != '.' &&
         s[0] != '-';
}

/// The revision in refs/main; empty when there is none.
std::string main_revision(const fs::path& repository) {
  std::ifstream file(repository / "refs" / "main");
  std::string revision;
  file >> revision;
  return revision;
}

}  // namespace

fs::path resolve_model(const std::string& dir_or_name) {
  if (is_folder(dir_or_name)) return dir_or_name;
  std::error_code error;
  if (fs::exists(dir_or_name, error))
    fail_input("{}: a file: a model is a folder with config.json", dir_or_name);
  const size_t slash = dir_or_name.find('/');
  const std::string org = dir_or_name.substr(0, slash);
  const std::string model = slash == std::string::npos ? "" : dir_or_name.substr(slash + 1);
  if (!is_word(org) || !is_word(model)) fail_input("{}: no such folder", shown(dir_or_name));

  const std::string hint = "hf download " + dir_or_name;
  const fs::path repository = cache_folder() / ("models--" + org + "--" + model);
  const fs::path snapshots = repository / "snapshots";
  if (!is_folder(snapshots))
    throw Error(Exit::input,
                fmt::format("{}: no such folder, and not in the Hugging Face cache {}", dir_or_name,
                            cache_folder().string()),
                hint);
  const std::string revision = main_revision(repository);
  if (!revision.empty()) {
    if (!is_word(revision))
      fail_input("{}: {} is not a revision", (repository / "refs" / "main").string(), shown(revision));
    if (is_folder(snapshots / revision)) return snapshots / revision;
    throw Error(Exit::input,
                fmt::format("{}: revision {} is not in the Hugging Face cache", snapshots.string(), revision),
                hint);
  }
  std::vector<fs::path> found;
  for (fs::directory_iterator it(snapshots, error), end; !error && it != end; it.increment(error)) {
    if (is_folder(it->path())) found.push_back(it->path());
  }
  if (found.size() == 1) return found[0];
  throw Error(
      Exit::input,
      fmt::format("{}: {} snapshots and no refs/main that chooses one", repository.string(), found.size()),
      hint);
}

}  // namespace blockgtq
