// Finds models by name in the Hugging Face library's cache on this machine.
#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/json.h"
#include "base/presence.h"
#include "base/printable.h"
#include "hf/checkpoint.h"
#include "hf/config_fields.h"
#include "hf/gguf.h"

namespace blockgtq {

namespace {

constexpr const char* kPrefix = "models--";
constexpr size_t kMaxRefBytes = 4096;

bool is_folder(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

std::string variable(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  return value ? value : "";
}

/// Expands a path as huggingface_hub does: "~" at its start, then $NAME and ${NAME}. An unset name stays.
std::string expanded(std::string text) {
  if (text == "~" || text.starts_with("~/")) text = "${HOME}" + text.substr(1);
  constexpr const char* kWord = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_";
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const bool braced = text.compare(i, 2, "${") == 0;
    const size_t first = i + (braced ? 2 : 1);
    const size_t last = std::min(text.find_first_not_of(kWord, first), text.size());
    const std::string value = text[i] == '$' ? variable(text.substr(first, last - first)) : "";
    if (!value.empty() && (!braced || (last < text.size() && text[last] == '}'))) {
      out += value;
      i = last + (braced ? 1 : 0);
    } else {
      out += text[i++];
    }
  }
  return out;
}

fs::path path_from(const char* name) {
  return expanded(variable(name));
}

/// The folders that may hold models: those of huggingface_hub first, then that of transformers 4.
std::vector<fs::path> cache_folders() {
  std::vector<fs::path> out;
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}) {
    if (out.empty() && !path_from(name).empty()) out.push_back(path_from(name));
  }
  if (out.empty() && !path_from("HF_HOME").empty()) out.push_back(path_from("HF_HOME") / "hub");
  if (out.empty() && !path_from("XDG_CACHE_HOME").empty())
    out.push_back(path_from("XDG_CACHE_HOME") / "huggingface" / "hub");
  if (out.empty()) out.push_back(path_from("HOME") / ".cache" / "huggingface" / "hub");
  if (const fs::path old = path_from("TRANSFORMERS_CACHE"); !old.empty()) out.push_back(old);
  return out;
}

bool is_word(const std::string& s) {
  constexpr const char* kAllowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
  return !s.empty() && s.size() <= 96 && s.find_first_not_of(kAllowed) == std::string::npos && s[0] != '.' &&
         s[0] != '-';
}

/// Whether it can be a commit, branch or tag: words separated by slashes.
bool is_revision(const std::string& s) {
  const size_t slash = s.find('/');
  return is_word(s.substr(0, slash)) && (slash == std::string::npos || is_revision(s.substr(slash + 1)));
}

/// The commit of a branch or tag; empty where the cache does not know it.
std::string commit_of(const fs::path& repository, const std::string& revision) {
  const fs::path path = repository / "refs" / revision;
  if (!is_there(path) || is_folder(path)) return "";
  std::istringstream text(read_text(path, kMaxRefBytes));
  std::string commit;
  text >> commit;
  return commit;
}

std::vector<std::string> snapshots_of(const fs::path& repository) {
  std::vector<std::string> out;
  std::error_code error;
  for (fs::directory_iterator it(repository / "snapshots", error), end; !error && it != end;
       it.increment(error)) {
    if (is_folder(it->path())) out.push_back(it->path().filename().string());
  }
  std::sort(out.begin(), out.end());
  return out;
}

/// The snapshot of a revision. Without one that of refs/main, or the only snapshot.
fs::path snapshot(const fs::path& repository, const std::string& revision, const std::string& hint) {
  const fs::path snapshots = repository / "snapshots";
  const std::vector<std::string> found = snapshots_of(repository);
  std::string commit = commit_of(repository, revision.empty() ? "main" : revision);
  if (!commit.empty() && !is_word(commit))
    fail_input("{}: {} is not a revision",
               (repository / "refs" / (revision.empty() ? "main" : revision)).string(), shown(commit));
  if (commit.empty()) commit = revision;
  if (commit.empty() && found.size() == 1) return snapshots / found[0];
  if (commit.empty())
    throw Error(
        Exit::input,
        fmt::format("{}: {} snapshots and no refs/main that chooses one", repository.string(), found.size()),
        hint);
  if (is_folder(snapshots / commit)) return snapshots / commit;
  std::string there;
  for (const std::string& name : found) there += (there.empty() ? "" : ", ") + shown(name);
  throw Error(Exit::input,
              fmt::format("{}: revision {} is not in the Hugging Face cache: {}", snapshots.string(), commit,
                          there.empty() ? "none is" : there),
              hint);
}

}  // namespace

fs::path resolve_model(const std::string& dir_or_name) {
  if (is_folder(dir_or_name) || is_gguf(dir_or_name)) return dir_or_name;
  std::error_code error;
  if (fs::exists(dir_or_name, error))
    fail_input("{}: a file: a model is a folder with config.json, or a GGUF file", dir_or_name);
  if (dir_or_name.ends_with(".gguf")) fail_input("{}: no such file", printable(dir_or_name));
  const size_t at = dir_or_name.find('@');
  const std::string name = dir_or_name.substr(0, at);
  const std::string revision = at == std::string::npos ? "" : dir_or_name.substr(at + 1);
  const size_t slash = name.find('/');
  const std::string org = name.substr(0, slash);
  const std::string model = slash == std::string::npos ? "" : name.substr(slash + 1);
  if (!is_word(org) || !is_word(model) || (at != std::string::npos && !is_revision(revision)))
    fail_input("{}: no such folder", printable(dir_or_name));

  const std::string hint = "hf download " + name + (revision.empty() ? "" : " --revision " + revision);
  const std::vector<fs::path> caches = cache_folders();
  for (const fs::path& cache : caches) {
    const fs::path repository = cache / (kPrefix + org + "--" + model);
    if (is_folder(repository / "snapshots")) return snapshot(repository, revision, hint);
  }
  throw Error(Exit::input,
              fmt::format("{}: no such folder, and not in the Hugging Face cache {}", dir_or_name,
                          caches[0].string()),
              hint);
}

std::string download_hint(const fs::path& folder) {
  fs::path own = fs::absolute(folder).lexically_normal();
  if (!own.has_filename()) own = own.parent_path();
  const fs::path repository = own.parent_path().parent_path();
  std::string name = repository.filename().string();
  if (own.parent_path().filename() != "snapshots" || !name.starts_with(kPrefix)) return "";
  name.erase(0, std::string_view(kPrefix).size());
  if (const size_t dashes = name.find("--"); dashes != std::string::npos) name.replace(dashes, 2, "/");
  std::string hint = fmt::format("hf download {} --revision {}", name, own.filename().string());
  for (const std::string& other : snapshots_of(repository)) {
    if (other != own.filename() && has_weights(own.parent_path() / other))
      return hint + fmt::format("; -m {}@{} has weights", name, other);
  }
  return hint;
}

}  // namespace blockgtq
