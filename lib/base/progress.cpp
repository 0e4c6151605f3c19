#include "base/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "base/json.h"
#include "base/printable.h"

namespace blockgtq {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point t) {
  return std::chrono::duration<double>(Clock::now() - t).count();
}

/// One write per line, so that lines of several processes do not mix.
void put(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
}

/// A piece of work that has begun and not ended. They nest: a panel has models, and a model layers.
struct Level {
  std::string what;
  int64_t steps = 0;  // 0: not known
  int64_t done = 0;
  Clock::time_point begun, last_step;
};

/// What all styles share: the open levels and the lock. A style prints in its shown_* functions.
class StderrProgress : public Progress {
 public:
  explicit StderrProgress(bool quiet) : quiet_(quiet) {}

  void begin(const std::string& what, int64_t steps) final {
    const std::lock_guard lock(mutex_);
    const auto now = Clock::now();
    levels_.push_back({printable(what), std::max<int64_t>(steps, 0), 0, now, now});
    if (!quiet_) show_begin(levels_.back());
  }
  void step(const std::string& detail) final {
    const std::lock_guard lock(mutex_);
    if (levels_.empty()) return;
    Level& level = levels_.back();
    ++level.done;
    if (!quiet_) show_step(level, printable(detail), seconds_since(level.last_step));
    level.last_step = Clock::now();
  }
  void end() final {
    const std::lock_guard lock(mutex_);
    if (levels_.empty()) return;
    const Level level = levels_.back();
    levels_.pop_back();
    if (!quiet_) show_end(level);
  }
  void warn(const std::string& text) final {
    const std::lock_guard lock(mutex_);
    if (warned_.insert(text).second) show_warning(printable(text));
  }

 protected:
  virtual void show_begin(const Level&) {}
  virtual void show_step(const Level&, const std::string& detail, double seconds) = 0;
  virtual void show_end(const Level&) {}
  virtual void show_warning(const std::string& text) { put("warning: " + text + "\n"); }

  std::vector<Level> levels_;

 private:
  bool quiet_;
  std::set<std::string> warned_;
  std::mutex mutex_;
};

/// "[ 3/36] calibrate: layer 2 (0.8 s)"
class PlainProgress final : public StderrProgress {
  using StderrProgress::StderrProgress;

  void show_step(const Level& level, const std::string& detail, double seconds) override {
    const std::string total = std::to_string(level.steps);
    const std::string count = level.steps > 0 ? fmt::format("[{:>{}}/{}]", level.done, total.size(), total)
                                              : fmt::format("[{}]", level.done);
    const std::string colon = detail.empty() ? "" : ": ";
    put(fmt::format("{} {}{}{} ({:.1f} s)\n", count, level.what, colon, detail, seconds));
  }
};

/// {"event":"step","what":"calibrate","step":3,"steps":36,"detail":"layer 2","seconds":0.8}
class JsonProgress final : public StderrProgress {
  using StderrProgress::StderrProgress;

  static void put_event(const Json& event) {
    put(event.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
  }
  static double milliseconds(double seconds) { return double(int64_t(seconds * 1000)) / 1000; }

  void show_begin(const Level& level) override {
    put_event({{"event", "begin"}, {"what", level.what}, {"steps", level.steps}});
  }
  void show_step(const Level& level, const std::string& detail, double seconds) override {
    put_event({{"event", "step"},
               {"what", level.what},
               {"step", level.done},
               {"steps", level.steps},
               {"detail", detail},
               {"seconds", milliseconds(seconds)}});
  }
  void show_end(const Level& level) override {
    put_event({{"event", "end"},
               {"what", level.what},
               {"step", level.done},
               {"steps", level.steps},
               {"seconds", milliseconds(seconds_since(level.begun))}});
  }
  void show_warning(const std::string& text) override { put_event({{"event", "warning"}, {"text", text}}); }
};

/// One line that is drawn again and again: "panel 3/10 > calibrate [#####---------]  12/36 layer 11, 0:42
/// left"
class BarProgress final : public StderrProgress {
 public:
  using StderrProgress::StderrProgress;
  ~BarProgress() override { clear(); }

 private:
  static constexpr auto kRedraw = std::chrono::milliseconds(100);
  static constexpr int kBarWidth = 24;
  static constexpr const char* kClear = "\r\x1b[K";

  static size_t terminal_width() {
    winsize size = {};
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
    return 80;
  }

  /// At most width characters, cut between characters.
  static std::string cut(std::string text, size_t width) {
    size_t seen = 0;
    for (size_t i = 0; i < text.size(); ++i) {
      if ((uint8_t(text[i]) & 0xc0) != 0x80 && ++seen > width) {
        text.resize(i);
        break;
      }
    }
    return text;
  }

  /// An estimate for the outermost level, from the share that is done on all levels. Empty where the size of
  /// a level is not known.
  std::string time_left() const {
    double fraction = 0;
    for (auto level = levels_.rbegin(); level != levels_.rend(); ++level) {
      if (level->steps == 0) return "";
      fraction = std::min(1.0, (double(level->done) + fraction) / double(level->steps));
    }
    if (fraction <= 0) return "";
    const auto left = int64_t(seconds_since(levels_.front().begun) * (1 - fraction) / fraction + 0.5);
    const std::string minutes = left < 3600
                                    ? fmt::format("{}:{:02}", left / 60, left % 60)
                                    : fmt::format("{}:{:02}:{:02}", left / 3600, left / 60 % 60, left % 60);
    return ", " + minutes + " left";
  }

  void draw(const std::string& detail, bool now) {
    if (!now && Clock::now() - drawn_ < kRedraw) return;
    std::string line;
    for (size_t i = 0; i + 1 < levels_.size(); ++i) {
      const Level& outer = levels_[i];
      line += outer.what;
      if (outer.steps > 0) line += fmt::format(" {}/{}", std::min(outer.done + 1, outer.steps), outer.steps);
      line += " > ";
    }
    const Level& level = levels_.back();
    line += level.what;
    if (level.steps > 0) {
      const auto full = int(std::min(level.done, level.steps) * kBarWidth / level.steps);
      line += " [" + std::string(size_t(full), '#') + std::string(size_t(kBarWidth - full), '-') + "]";
      line += fmt::format(" {}/{}", level.done, level.steps);
    } else {
      line += fmt::format(" {}", level.done);
    }
    if (!detail.empty()) line += " " + detail;
    line += time_left();
    put(kClear + cut(line, terminal_width() - 1));  // the last column would wrap on some terminals
    visible_ = true;
    drawn_ = Clock::now();
  }

  void clear() {
    if (visible_) put(kClear);
    visible_ = false;
  }

  void show_begin(const Level&) override { draw("", true); }
  void show_step(const Level& level, const std::string& detail, double) override {
    draw(detail, level.done == level.steps);
  }
  void show_end(const Level& level) override {
    clear();
    if (levels_.empty()) put(fmt::format("{}: {:.1f} s\n", level.what, seconds_since(level.begun)));
  }
  void show_warning(const std::string& text) override {
    clear();
    StderrProgress::show_warning(text);
  }

  bool visible_ = false;
  Clock::time_point drawn_ = {};
};

bool draws_lines() {
  const char* terminal = std::getenv("TERM");
  return isatty(STDERR_FILENO) == 1 && !(terminal && std::string(terminal) == "dumb");
}

}  // namespace

std::unique_ptr<Progress> make_progress(ProgressStyle style, bool quiet) {
  if (style == ProgressStyle::automatic) style = draws_lines() ? ProgressStyle::bar : ProgressStyle::plain;
  switch (style) {
    case ProgressStyle::json:
      return std::make_unique<JsonProgress>(quiet);
    case ProgressStyle::bar:
      return std::make_unique<BarProgress>(quiet);
    case ProgressStyle::none:
      return std::make_unique<PlainProgress>(true);
    default:
      return std::make_unique<PlainProgress>(quiet);
  }
}

}  // namespace blockgtq
