#include "reader.h"

#include <stdlib.h>

#include <fstream>
#include <stdexcept>

#include "base/error.h"
#include "base/printable.h"

namespace blockgtq {

const std::vector<Reader>& readers() {
  static const std::vector<Reader> all = {
      {"json", fuzz_json},       {"safetensors", fuzz_safetensors},
      {"gguf", fuzz_gguf},       {"index", fuzz_index},
      {"config", fuzz_config},   {"tokenizer", fuzz_tokenizer},
      {"text", fuzz_text},       {"pattern", fuzz_pattern},
      {"folder", fuzz_folder},   {"chat", fuzz_chat},
      {"ids", fuzz_ids},         {"prompts", fuzz_prompts},
      {"tasks", fuzz_tasks},     {"panel", fuzz_panel},
      {"toml", fuzz_toml},       {"resume", fuzz_resume},
      {"samples", fuzz_samples}, {"h5", fuzz_h5},
  };
  return all;
}

std::string try_reader(const Reader& reader, std::string_view input) {
  try {
    reader.read(input);
    return "";
  } catch (const Error& e) {
    const bool code = e.code == Exit::input || e.code == Exit::usage || e.code == Exit::nonfinite;
    check(code, "a bad input has another exit code than 2, 3 or 6");
    const std::string what = e.what();
    check(!what.empty() && printable(what).find('\n') == std::string::npos, "an error of no or more lines");
    return what;
  }
}

const std::filesystem::path& scratch_folder() {
  struct Scratch {
    std::filesystem::path path;
    Scratch() {
      std::string name = (std::filesystem::temp_directory_path() / "blockgtq-fuzz-XXXXXX").string();
      check(mkdtemp(name.data()) != nullptr, "mkdtemp");
      path = name;
    }
    ~Scratch() {
      std::error_code ignored;
      std::filesystem::remove_all(path, ignored);
    }
  };
  static const Scratch scratch;
  return scratch.path;
}

std::filesystem::path scratch_file(const std::string& name, std::string_view bytes) {
  const std::filesystem::path path = scratch_folder() / name;
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(bytes.data(), std::streamsize(bytes.size()));
  out.close();
  check(out.good(), "a scratch file cannot be written");
  return path;
}

std::vector<std::string_view> parts_of(std::string_view input, size_t n) {
  std::vector<std::string_view> parts;
  while (parts.size() + 1 < n) {
    const size_t end = std::min(input.find('\xff'), input.size());
    parts.push_back(input.substr(0, end));
    input.remove_prefix(std::min(end + 1, input.size()));
  }
  parts.push_back(input);
  return parts;
}

}  // namespace blockgtq
