#include "base/progress.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>
#include <vector>

#include "base/json.h"
#include "catch.h"
#include "temp_folder.h"

using namespace blockgtq;

namespace {

/// What f writes to stderr.
std::string captured(const std::function<void()>& f) {
  const TempFolder folder;
  const int file = open((folder / "err").c_str(), O_RDWR | O_CREAT, 0600);
  const int saved = dup(STDERR_FILENO);
  REQUIRE(file >= 0);
  REQUIRE(saved >= 0);
  dup2(file, STDERR_FILENO);
  f();
  dup2(saved, STDERR_FILENO);
  close(saved);
  close(file);
  return get_file(folder / "err");
}

/// A small run in the given style.
std::string run(ProgressStyle style, bool quiet) {
  return captured([&] {
    const auto progress = make_progress(style, quiet);
    progress->begin("calibrate", 10);
    for (int i = 1; i <= 10; ++i) progress->step("layer " + std::to_string(i));
    progress->warn("bad\nnews");
    progress->end();
  });
}

std::vector<std::string> lines(const std::string& text) {
  std::vector<std::string> all;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) all.push_back(line);
  return all;
}

}  // namespace

TEST_CASE("plain progress is one line per step") {
  for (const auto style : {ProgressStyle::plain, ProgressStyle::automatic}) {  // a file is no terminal
    const auto all = lines(run(style, false));
    REQUIRE(all.size() == 11);
    CHECK(all[0] == "[ 1/10] calibrate: layer 1 (0.0 s)");
    CHECK(all[9] == "[10/10] calibrate: layer 10 (0.0 s)");
    CHECK(all[10] == "warning: bad\\nnews");
  }
}

TEST_CASE("JSON progress is one object per line") {
  const auto all = lines(run(ProgressStyle::json, false));
  REQUIRE(all.size() == 13);
  const Json begin = parse_json(all[0], "line"), third = parse_json(all[3], "line");
  CHECK(begin["event"] == "begin");
  CHECK(begin["steps"] == 10);
  CHECK(third["event"] == "step");
  CHECK(third["what"] == "calibrate");
  CHECK(third["step"] == 3);
  CHECK(third["steps"] == 10);
  CHECK(third["detail"] == "layer 3");
  CHECK(third["seconds"].is_number());
  CHECK(parse_json(all[11], "line")["event"] == "warning");
  CHECK(parse_json(all[11], "line")["text"] == "bad\\nnews");
  CHECK(parse_json(all[12], "line")["event"] == "end");

  // A file name need not be UTF-8.
  const auto odd = lines(captured([] { make_progress(ProgressStyle::json, false)->warn("a\xff\"b"); }));
  REQUIRE(odd.size() == 1);
  CHECK(parse_json(odd[0], "line")["text"] == "a\\xff\"b");
}

TEST_CASE("warnings are shown when nothing else is") {
  CHECK(run(ProgressStyle::none, false) == "warning: bad\\nnews\n");
  CHECK(run(ProgressStyle::plain, true) == "warning: bad\\nnews\n");
  CHECK(run(ProgressStyle::bar, true) == "warning: bad\\nnews\n");
  const auto json = lines(run(ProgressStyle::json, true));
  REQUIRE(json.size() == 1);
  CHECK(parse_json(json[0], "line")["event"] == "warning");
}

TEST_CASE("the bar draws the first and the last step and few between") {
  const std::string text = captured([] {
    const auto progress = make_progress(ProgressStyle::bar, false);
    progress->begin("panel", 2);
    progress->begin("calibrate", 10000);
    for (int i = 0; i < 10000; ++i) progress->step("layer");
    progress->end();
    progress->warn("news");
    progress->step("");
    progress->end();
  });
  size_t drawn = 0;
  for (size_t p = text.find('\r'); p != text.npos; p = text.find('\r', p + 1)) ++drawn;
  CHECK(drawn < 100);  // ten a second, and ten thousand steps take no ten seconds
  CHECK_THAT(text, ContainsSubstring("panel 1/2 > calibrate [------------------------] 0/10000"));
  CHECK_THAT(text, ContainsSubstring("calibrate [########################] 10000/10000 layer, 0:00 left"));
  CHECK_THAT(text, ContainsSubstring("\r\x1b[Kwarning: news\n"));
  CHECK_THAT(lines(text).back(), ContainsSubstring("panel: 0."));
}

TEST_CASE("automatic is a bar as wide as its terminal allows") {
  const int terminal = posix_openpt(O_RDWR | O_NOCTTY);
  if (terminal < 0 || grantpt(terminal) != 0 || unlockpt(terminal) != 0) {
    WARN("skipped: no pseudo terminals here");
    return;
  }
  const int side = open(ptsname(terminal), O_RDWR | O_NOCTTY);
  REQUIRE(side >= 0);
  winsize size = {};
  size.ws_row = 24;
  size.ws_col = 20;
  REQUIRE(ioctl(side, TIOCSWINSZ, &size) == 0);
  setenv("TERM", "xterm", 1);
  const int saved = dup(STDERR_FILENO);
  dup2(side, STDERR_FILENO);
  make_progress(ProgressStyle::automatic, false)->begin("äöü a long name that does not fit", 5);
  dup2(saved, STDERR_FILENO);
  close(saved);
  // 19 characters: the last column stays free. The line is gone when the object is.
  const std::string want = "\r\x1b[Käöü a long name tha\r\x1b[K";
  std::string got;  // the terminal hands it over in pieces
  for (pollfd ready{terminal, POLLIN, 0}; got.size() < want.size() && poll(&ready, 1, 5000) == 1;) {
    char buffer[512];
    const ssize_t n = read(terminal, buffer, sizeof buffer);
    if (n <= 0) break;
    got.append(buffer, size_t(n));
  }
  close(side);
  close(terminal);
  CHECK(got == want);
}

TEST_CASE("progress from several threads keeps whole lines") {
  const std::string text = captured([] {
    const auto progress = make_progress(ProgressStyle::plain, false);
    progress->begin("work", 400);
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 100; ++i) progress->step("piece");
      });
    }
    for (auto& t : threads) t.join();
  });
  const auto all = lines(text);
  REQUIRE(all.size() == 400);
  for (size_t i = 0; i < all.size(); ++i) {
    REQUIRE_THAT(all[i], ContainsSubstring(std::to_string(i + 1) + "/400] work: piece ("));
  }
}

TEST_CASE("a step outside any work is nothing") {
  CHECK(captured([] {
          const auto progress = make_progress(ProgressStyle::bar, false);
          progress->step("x");
          progress->end();
        }).empty());
}
