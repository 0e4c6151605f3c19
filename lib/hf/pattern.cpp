#include "hf/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <bitset>
#include <new>
#include <utility>

#include "base/error.h"
#include "hf/unicode_tables.h"
#include "hf/utf8.h"

namespace blockgtq {

namespace {

constexpr size_t kJitStackStart = 32 << 10, kJitStackMost = 8 << 20;
constexpr size_t kNone = size_t(-1);
constexpr size_t kFirstWindow = 256;    // bytes
constexpr uint32_t kFirstSteps = 1024;  // of one search
constexpr size_t kMaxMatchBytes = size_t(64) << 20;

constexpr char32_t kFirstReplaced = 0x295;

/// The pages of 256 code points that have a row in kReplaced.
const std::bitset<0x1100>& replaced_pages() {
  static const std::bitset<0x1100> pages = [] {
    std::bitset<0x1100> p;
    for (size_t i = 0; i < kReplacedCount; ++i)
      for (char32_t page = kReplaced[i].first >> 8; page <= kReplaced[i].last >> 8; ++page) p.set(page);
    return p;
  }();
  return pages;
}

/// The text with code points of kReplaced replaced by their equivalents, at the same offsets. `copy` holds it
/// where it differs.
std::string_view with_replacements(std::string_view text, std::string& copy) {
  const std::bitset<0x1100>& pages = replaced_pages();
  bool copied = false;
  for (size_t i = 0; i < text.size();) {
    const Utf8Char c = decode_utf8(text.data() + i);
    if (c.value >= kFirstReplaced && pages[c.value >> 8]) {
      if (const CodeReplacement* r = find_row(kReplaced, kReplacedCount, c.value)) {
        if (!copied) copy.assign(text);
        copied = true;
        std::string same;
        append_utf8(same, r->same_as);
        check(same.size() == size_t(c.length), "a replacement of another length");
        copy.replace(i, same.size(), same);
      }
    }
    i += size_t(c.length);
  }
  return copied ? std::string_view(copy) : text;
}

std::string message(int error) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(error, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

}  // namespace

Pattern::Pattern(const Pcre2Text& pcre2, std::string where)
    : has_categories_(pcre2.has_categories), where_(std::move(where)) {
  pcre2_compile_context* context = pcre2_compile_context_create(nullptr);
  if (!context) throw std::bad_alloc();
  pcre2_set_newline(context, PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  code_ = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pcre2.text.data()), pcre2.text.size(),
                        PCRE2_UTF | PCRE2_UCP, &error, &offset, context);
  pcre2_compile_context_free(context);
  if (!code_ && error == PCRE2_ERROR_HEAP_FAILED) throw std::bad_alloc();
  if (!code_) fail_input("{}: the pattern is not a regular expression: {}", where_, message(error));
  pcre2_jit_compile(code_,
                    PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD);  // without JIT matching is interpreted
}

Pattern::~Pattern() {
  pcre2_code_free(code_);
}
Pattern::Pattern(Pattern&& o) noexcept
    : code_(std::exchange(o.code_, nullptr)),
      has_categories_(o.has_categories_),
      where_(std::move(o.where_)) {}

struct Matches::Scratch {
  pcre2_match_data* data;
  pcre2_match_context* context;
  pcre2_jit_stack* stack;

  explicit Scratch(const pcre2_code* code)
      : data(pcre2_match_data_create_from_pattern(code, nullptr)),
        context(pcre2_match_context_create(nullptr)),
        stack(pcre2_jit_stack_create(kJitStackStart, kJitStackMost, nullptr)) {
    if (!data || !context) {
      release();
      throw std::bad_alloc();
    }
    pcre2_set_heap_limit(context, kMatchHeapKiB);
    if (stack) pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~Scratch() { release(); }
  void release() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
};

Matches::Matches(const Pattern& pattern)
    : pattern_(&pattern), scratch_(std::make_unique<Scratch>(pattern.code_)) {}
Matches::~Matches() = default;
Matches::Matches(Matches&&) noexcept = default;

void Matches::start(std::string_view subject) {
  subject_ = pattern_->has_categories_ ? with_replacements(subject, replaced_) : subject;
  from_ = 0;
  last_end_ = kNone;
  allowed_ += kMatchStepsPerByte * subject.size();
}

bool Matches::next(size_t& begin, size_t& end) {
  while (from_ <= subject_.size()) {
    if (!search(begin, end)) return false;
    if (begin == end && end == last_end_) {
      from_ += from_ < subject_.size() ? size_t(decode_utf8(subject_.data() + from_).length) : 1;
      continue;
    }
    from_ = last_end_ = end;
    return true;
  }
  return false;
}

/// The first match from from_ on. PCRE2 does not report the cost of a search. So a search gets a small
/// budget, and a larger one where that is not enough, and what it gets is counted: steps, and a window of the
/// subject, because not every loop counts its steps. A search that needs to look behind the window returns
/// PARTIAL.
bool Matches::search(size_t& begin, size_t& end) {
  uint32_t steps = kFirstSteps;
  for (size_t window = kFirstWindow;;) {
    size_t stop = subject_.size();
    if (stop - from_ > window) {
      stop = from_ + window;
      while ((static_cast<unsigned char>(subject_[stop]) & 0xC0) == 0x80) --stop;
    }
    const bool to_end = stop == subject_.size();
    pcre2_set_match_limit(scratch_->context, steps);
    pcre2_set_depth_limit(scratch_->context, steps);
    const auto match = [&](uint32_t options) {
      return pcre2_match(pattern_->code_, reinterpret_cast<PCRE2_SPTR>(subject_.data()), stop, from_,
                         PCRE2_NO_UTF_CHECK | (to_end ? 0 : PCRE2_PARTIAL_HARD) | options, scratch_->data,
                         scratch_->context);
    };
    int found = match(0);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT)
      found = match(PCRE2_NO_JIT);  // the interpreter's stack is on the heap
    if (found >= 0 || found == PCRE2_ERROR_PARTIAL) {
      const PCRE2_SIZE* range = pcre2_get_ovector_pointer(scratch_->data);
      if (range[1] > range[0] + kMaxMatchBytes)
        fail_input("{}: the pattern matches more than {} bytes, from {} bytes into a segment on",
                   pattern_->where_, kMaxMatchBytes, range[0]);
    }
    if (found == PCRE2_ERROR_PARTIAL || (found == PCRE2_ERROR_NOMATCH && !to_end)) {
      spend(window);
      window *= 2;
    } else if (found == PCRE2_ERROR_MATCHLIMIT || found == PCRE2_ERROR_DEPTHLIMIT) {
      spend(steps);
      steps = steps > UINT32_MAX / 4 ? UINT32_MAX : 4 * steps;
    } else if (found == PCRE2_ERROR_NOMATCH) {
      return false;
    } else if (found == PCRE2_ERROR_NOMEMORY) {
      throw std::bad_alloc();
    } else if (found < 0) {
      fail_input("{}: the pattern cannot be matched {} bytes into a segment: {}, limit: {} KiB",
                 pattern_->where_, from_, message(found), kMatchHeapKiB);
    } else {
      const PCRE2_SIZE* range = pcre2_get_ovector_pointer(scratch_->data);
      begin = range[0];
      end = range[1];
      return true;
    }
  }
}

void Matches::spend(uint64_t steps) {
  spent_ += steps;
  if (spent_ > allowed_)
    fail_input("{}: the pattern takes too long on this text: it is {} bytes into a segment, limit: {} steps",
               pattern_->where_, from_, allowed_);
}

}  // namespace blockgtq
