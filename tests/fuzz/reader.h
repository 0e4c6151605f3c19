#pragma once
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace blockgtq {

/// A reader of files that may hold anything. `read` takes the bytes or throws Error; it also throws
/// std::logic_error where what was read is not what it promises to be. Anything else is a finding.
struct Reader {
  const char* name;  // of its folder in corpus/
  void (*read)(std::string_view input);
};
const std::vector<Reader>& readers();

/// Reads; why the input was refused, empty where it was taken. Throws what is a finding: an exception that is
/// no Error, an Error with the wrong code, or with a text that is no line for a terminal.
std::string try_reader(const Reader& reader, std::string_view input);

/// The folder of this process for files that readers want by their path; goes when it ends.
const std::filesystem::path& scratch_folder();
/// A file in it with these bytes.
std::filesystem::path scratch_file(const std::string& name, std::string_view bytes);
/// The parts of an input between bytes of 0xff, which no UTF-8 has; n of them, empty where there are fewer.
std::vector<std::string_view> parts_of(std::string_view input, size_t n);

// One small function per reader; beside each its promises.
void fuzz_json(std::string_view);
void fuzz_safetensors(std::string_view);
void fuzz_gguf(std::string_view);
void fuzz_index(std::string_view);
void fuzz_config(std::string_view);
void fuzz_tokenizer(std::string_view);
void fuzz_text(std::string_view);
void fuzz_pattern(std::string_view);
void fuzz_folder(std::string_view);
void fuzz_chat(std::string_view);
void fuzz_ids(std::string_view);
void fuzz_prompts(std::string_view);
void fuzz_tasks(std::string_view);
void fuzz_panel(std::string_view);
void fuzz_toml(std::string_view);
void fuzz_resume(std::string_view);
void fuzz_samples(std::string_view);
void fuzz_h5(std::string_view);

}  // namespace blockgtq
