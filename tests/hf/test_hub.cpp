#include <cstdlib>
#include <optional>

#include "base/error.h"
#include "catch.h"
#include "config_samples.h"
#include "hf/checkpoint.h"
#include "safetensors_builder.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

/// Sets an environment variable (null unsets it) and puts the old value back.
class Environment {
 public:
  Environment(const char* name, const char* value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old;
    set(value);
  }
  Environment(const Environment&) = delete;
  ~Environment() { set(old_ ? old_->c_str() : nullptr); }

 private:
  void set(const char* value) { value ? ::setenv(name_, value, 1) : ::unsetenv(name_); }
  const char* name_;
  std::optional<std::string> old_;
};

/// A home without any cache variable.
struct Home {
  TempDir dir;
  Environment home{"HOME", dir.path().c_str()};
  Environment hub{"HF_HUB_CACHE", nullptr}, old_hub{"HUGGINGFACE_HUB_CACHE", nullptr}, hf{"HF_HOME", nullptr},
      xdg{"XDG_CACHE_HOME", nullptr}, old{"TRANSFORMERS_CACHE", nullptr};
};

fs::path put(const fs::path& hub, const std::string& revision, bool main) {
  const fs::path repository = hub / "models--org--name";
  fs::create_directories(repository / "snapshots" / revision);
  if (main) {
    fs::create_directories(repository / "refs");
    write_bytes(repository / "refs" / "main", revision + "\n");
  }
  return repository / "snapshots" / revision;
}

Error failure_of(const std::string& name) {
  try {
    resolve_model(name);
  } catch (const Error& e) {
    CHECK(e.code == Exit::input);
    CHECK(std::string(e.what()).find('\n') == std::string::npos);
    return e;
  }
  return Error(Exit::ok, "");
}

/// For a snapshot that lies there already: a CHECK that made it might ask first.
void check_found(const fs::path& snapshot) {
  CHECK(resolve_model("org/name") == snapshot);
}

}  // namespace

TEST_CASE("hub: where the cache is", "[hub]") {
  Home home;
  const fs::path at = home.dir.path() / ".cache/huggingface/hub";
  check_found(put(at, "aa", true));
  {
    Environment xdg("XDG_CACHE_HOME", (home.dir / "x").c_str());
    check_found(put(home.dir / "x/huggingface/hub", "bb", true));
    Environment hf("HF_HOME", (home.dir / "h").c_str());
    check_found(put(home.dir / "h/hub", "cc", true));
    Environment old("HUGGINGFACE_HUB_CACHE", (home.dir / "o").c_str());
    check_found(put(home.dir / "o", "dd", true));
    Environment hub("HF_HUB_CACHE", (home.dir / "c").c_str());
    check_found(put(home.dir / "c", "ee", true));
    Environment tilde("HF_HUB_CACHE", "~/t");
    check_found(put(home.dir / "t", "ff", true));
    for (const char* text : {"$HOME/v", "${HOME}/v", "~/${SUB}", "$HOME/$SUB"}) {
      Environment sub("SUB", "v"), variable("HF_HUB_CACHE", text);
      check_found(put(home.dir / "v", "99", true));
    }
    for (const char* text : {"$NOT_SET_ANYWHERE/v", "${HOME/v", "$/v", "${}/v"}) {  // left as they are
      Environment variable("HF_HUB_CACHE", text);
      CHECK_THAT(failure_of("org/name").what(), ContainsSubstring("Hugging Face cache " + std::string(text)));
    }
  }
  {
    Environment hf("HF_HOME", "$HOME/h");
    CHECK(resolve_model("org/name") == home.dir / "h/hub/models--org--name/snapshots/cc");
  }
  Environment empty("HF_HOME", "");
  CHECK(resolve_model("org/name") == at / "models--org--name/snapshots/aa");
}

TEST_CASE("hub: which snapshot", "[hub]") {
  Home home;
  Environment hub("HF_HUB_CACHE", home.dir.path().c_str());
  const Error absent = failure_of("org/name");
  CHECK_THAT(absent.what(), ContainsSubstring("not in the Hugging Face cache " + home.dir.path().string()));
  CHECK(absent.hint == "hf download org/name");

  const fs::path first = put(home.dir.path(), "1111", false);
  CHECK(resolve_model("org/name") == first);  // the only one there is
  const fs::path second = put(home.dir.path(), "2222", false);
  CHECK_THAT(failure_of("org/name").what(), ContainsSubstring("2 snapshots and no refs/main"));
  CHECK(failure_of("org/name").hint == "hf download org/name");
  put(home.dir.path(), "2222", true);
  CHECK(resolve_model("org/name") == second);

  const fs::path main = home.dir.path() / "models--org--name/refs/main";
  write_bytes(main, "3333");
  CHECK_THAT(failure_of("org/name").what(), ContainsSubstring("revision 3333 is not in"));
  write_bytes(main, "../../../etc");
  CHECK_THAT(failure_of("org/name").what(), ContainsSubstring("\"../../../etc\" is not a revision"));
  write_bytes(main, "..");
  CHECK_THAT(failure_of("org/name").what(), ContainsSubstring("is not a revision"));
}

TEST_CASE("hub: where transformers 4 was told to put its cache is looked at last", "[hub]") {
  Home home;
  Environment old("TRANSFORMERS_CACHE", (home.dir / "t").c_str());
  check_found(put(home.dir / "t", "aa", true));
  check_found(put(home.dir.path() / ".cache/huggingface/hub", "bb", true));
}

TEST_CASE("hub: a revision behind the name", "[hub]") {
  Home home;
  Environment hub("HF_HUB_CACHE", home.dir.path().c_str());
  const fs::path first = put(home.dir.path(), "1111", false), second = put(home.dir.path(), "2222", true);
  const fs::path refs = home.dir.path() / "models--org--name/refs";
  fs::create_directories(refs / "refs/pr");
  write_bytes(refs / "v1.0", "1111");
  write_bytes(refs / "refs/pr/3", "1111");
  for (const char* revision : {"1111", "v1.0", "refs/pr/3"})
    CHECK(resolve_model("org/name@" + std::string(revision)) == first);
  CHECK(resolve_model("org/name@main") == second);
  CHECK_THAT(failure_of("org/name@3333").what(),
             ContainsSubstring("revision 3333 is not in the Hugging Face cache: \"1111\", \"2222\""));
  CHECK(failure_of("org/name@3333").hint == "hf download org/name --revision 3333");
  CHECK(failure_of("org/other@v2").hint == "hf download org/other --revision v2");
  for (const char* name :
       {"org/name@", "org/name@..", "org/name@a/../b", "org/name@/x", "org/name@a b", "@x"})
    CHECK_THAT(failure_of(name).what(), ContainsSubstring("no such folder"));
}

TEST_CASE("hub: a snapshot without weights hints at one that has them", "[hub]") {
  Home home;
  Environment hub("HF_HUB_CACHE", home.dir.path().c_str());
  const fs::path full = put(home.dir.path(), "1111", false), bare = put(home.dir.path(), "2222", true);
  for (const fs::path& snapshot : {full, bare}) write_bytes(snapshot / "config.json", kQwen3);
  const auto failure = [&](const std::string& says) {
    try {
      Checkpoint model(resolve_model("org/name"));
    } catch (const Error& e) {
      CHECK(e.code == Exit::input);
      CHECK_THAT(e.what(), ContainsSubstring(says));
      return e.hint;
    }
    return std::string("no error");
  };
  CHECK(failure("no model.safetensors") == "hf download org/name --revision 2222");
  SafetensorsBuilder().add_bf16("w", {2}).write(full / "model.safetensors");
  CHECK(failure("no model.safetensors") ==
        "hf download org/name --revision 2222; -m org/name@1111 has weights");
  CHECK(Checkpoint(resolve_model("org/name@1111")).find("w"));
  CHECK(download_hint(bare / "") == download_hint(bare));
  CHECK(download_hint(home.dir.path()).empty());

  fs::create_symlink("../../blobs/77", bare / "model.safetensors");
  const std::string hint =
      failure("model.safetensors: a link to a file that is not there: \"../../blobs/77\"");
  CHECK_THAT(hint, ContainsSubstring("hf download org/name --revision 2222"));
  fs::remove(bare / "model.safetensors");
  write_bytes(bare / "model.safetensors.index.json", R"({"weight_map":{"w":"a.safetensors"}})");
  CHECK_THAT(failure("a.safetensors: no such file"), ContainsSubstring("hf download org/name"));
  fs::remove(bare / "config.json");
  CHECK_THAT(failure("no config.json"), ContainsSubstring("hf download org/name"));
}

TEST_CASE("hub: a folder goes before a name", "[hub]") {
  Home home;
  const fs::path here = fs::current_path();
  fs::current_path(home.dir.path());
  put(home.dir.path() / ".cache/huggingface/hub", "aa", true);
  fs::create_directories("org/name");
  CHECK(resolve_model("org/name") == "org/name");
  CHECK(resolve_model(home.dir.path().string()) == home.dir.path());
  write_bytes("file", "x");
  CHECK_THAT(failure_of("file").what(), ContainsSubstring("file: a file"));
  fs::current_path(here);
}

TEST_CASE("hub: what is no name", "[hub]") {
  Home home;
  for (const char* name : {"", "nowhere", "/no/where", "./org/name", "../name", "org/", "/name", "org/../x",
                           "a/b/c", "org/na me", "org/na\nme", "-x/y", "org/.."}) {
    INFO(name);
    CHECK_THAT(failure_of(name).what(), ContainsSubstring("no such folder"));
    CHECK(failure_of(name).hint == "");
  }
}
