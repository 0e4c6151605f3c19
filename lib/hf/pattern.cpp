#include "hf/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <utility>

#include "base/error.h"
#include "hf/utf8.h"

namespace blockgtq {

namespace {

constexpr size_t kJitStackStart = 32 << 10, kJitStackMost = 8 << 20;
constexpr size_t kNone = size_t(-1);

std::string message(int error) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(error, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

}  // namespace

Pattern::Pattern(const std::string& pcre2, std::string where) : where_(std::move(where)) {
  pcre2_compile_context* context = pcre2_compile_context_create(nullptr);
  check(context != nullptr, "pcre2_compile_context_create");
  pcre2_set_newline(context, PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  code_ = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pcre2.data()), pcre2.size(), PCRE2_UTF | PCRE2_UCP,
                        &error, &offset, context);
  pcre2_compile_context_free(context);
  if (!code_) fail_input("{}: the pattern is not a regular expression: {}", where_, message(error));
  pcre2_jit_compile(code_, PCRE2_JIT_COMPLETE);  // where there is no JIT, matching interprets
}

Pattern::~Pattern() {
  pcre2_code_free(code_);
}
Pattern::Pattern(Pattern&& o) noexcept
    : code_(std::exchange(o.code_, nullptr)), where_(std::move(o.where_)) {}

struct Matches::Scratch {
  pcre2_match_data* data;
  pcre2_match_context* context;
  pcre2_jit_stack* stack;

  explicit Scratch(const pcre2_code* code)
      : data(pcre2_match_data_create_from_pattern(code, nullptr)),
        context(pcre2_match_context_create(nullptr)),
        stack(pcre2_jit_stack_create(kJitStackStart, kJitStackMost, nullptr)) {
    check(data && context, "no memory for a match");
    pcre2_set_match_limit(context, kMatchLimit);
    pcre2_set_depth_limit(context, kMatchLimit);
    pcre2_set_heap_limit(context, kMatchHeapKiB);
    if (stack) pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~Scratch() {
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
  subject_ = subject;
  from_ = 0;
  last_end_ = kNone;
}

bool Matches::next(size_t& begin, size_t& end) {
  while (from_ <= subject_.size()) {
    const auto search = [&](uint32_t options) {
      return pcre2_match(pattern_->code_, reinterpret_cast<PCRE2_SPTR>(subject_.data()), subject_.size(),
                         from_, PCRE2_NO_UTF_CHECK | options, scratch_->data, scratch_->context);
    };
    int found = search(0);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT)
      found = search(PCRE2_NO_JIT);  // the interpreter's stack is the heap
    if (found == PCRE2_ERROR_NOMATCH) return false;
    if (found < 0)
      fail_input("{}: the pattern cannot be matched {} bytes into a segment: {}, limits: {} steps, {} KiB",
                 pattern_->where_, from_, message(found), kMatchLimit, kMatchHeapKiB);
    const PCRE2_SIZE* range = pcre2_get_ovector_pointer(scratch_->data);
    begin = range[0];
    end = range[1];
    if (begin == end && end == last_end_) {
      from_ += from_ < subject_.size() ? size_t(decode_utf8(subject_.data() + from_).length) : 1;
      continue;
    }
    from_ = last_end_ = end;
    return true;
  }
  return false;
}

}  // namespace blockgtq
