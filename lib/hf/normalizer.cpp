#include "hf/normalizer.h"

#include <utf8proc.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "hf/tokenizer_json.h"
#include "hf/unicode_tables.h"
#include "hf/utf8.h"

namespace blockgtq {

namespace {

/// Code points that normalization never joins to what stands before them: none has a combining class, and
/// none is the second part of a composition, nor is the first of what it decomposes to. NFC leaves them as
/// they are.
bool starts_unit(char32_t c) {
  return c < 0x300 || (c >= 0x400 && c <= 0x482) || (c >= 0x3041 && c <= 0x3096) ||
         (c >= 0x30A1 && c <= 0x30FA) || (c >= 0x3400 && c <= 0x9FFF) || (c >= 0xAC00 && c <= 0xD7A3);
}

/// text, normalized by utf8proc.
void append_normalized(utf8proc_option_t options, std::string_view text, std::string& out) {
  utf8proc_uint8_t* result = nullptr;
  const utf8proc_ssize_t n = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                          utf8proc_ssize_t(text.size()), &result, options);
  if (n < 0) fail_input("the text cannot be normalized: {}", utf8proc_errmsg(n));
  out.append(reinterpret_cast<const char*>(result), size_t(n));
  std::free(result);
}

/// The same, where code points of kInert part the text: they neither move nor combine.
void append_unit(utf8proc_option_t options, std::string_view unit, std::string& out) {
  size_t from = 0, i = 0;
  while (i < unit.size()) {
    const Utf8Char c = decode_utf8(unit.data() + i);
    const size_t next = i + size_t(c.length);
    if (find_row(kInert, kInertCount, c.value)) {
      if (from < i) append_normalized(options, unit.substr(from, i - from), out);
      out += unit.substr(i, size_t(c.length));
      from = next;
    }
    i = next;
  }
  if (from < unit.size()) append_normalized(options, unit.substr(from), out);
}

}  // namespace

Normalizer::Normalizer(const Json* json, const std::string& where) {
  if (json) add(*json, where);
}

void Normalizer::add(const Json& json, const std::string& where) {
  const std::string type = get_type(json, where);
  if (type == "NFC") {
    forms_.push_back(Form::nfc);
  } else if (type == "NFD") {
    forms_.push_back(Form::nfd);
  } else if (type == "NFKC") {
    forms_.push_back(Form::nfkc);
  } else if (type == "NFKD") {
    forms_.push_back(Form::nfkd);
  } else if (type == "Sequence") {
    const Json& parts = get_member(json, "normalizers", where);
    if (!parts.is_array()) fail_input("{}: \"normalizers\" is not an array: {}", where, parts.type_name());
    for (const Json& part : parts) add(part, where);
  } else {
    fail_input("{}: the type is not supported: {}, allowed: NFC, NFD, NFKC, NFKD, Sequence", where, type);
  }
}

bool Normalizer::apply(std::string_view text, std::string& out) const {
  bool changed = false;
  std::string next;
  for (const Form form : forms_) {
    if (!apply(form, changed ? std::string_view(out) : text, next)) continue;
    out.swap(next);
    changed = true;
  }
  return changed;
}

bool Normalizer::apply(Form form, std::string_view text, std::string& out) {
  const bool compose = form == Form::nfc || form == Form::nfkc;
  const bool compatible = form == Form::nfkc || form == Form::nfkd;
  const auto options = utf8proc_option_t(UTF8PROC_STABLE | (compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
                                         (compatible ? UTF8PROC_COMPAT : 0));
  out.clear();
  bool changed = false;
  std::string unit;
  size_t copied = 0;      // text up to here is in out, once something has changed
  size_t unit_start = 0;  // the last code point that starts a unit
  for (size_t i = 0; i < text.size();) {
    Utf8Char c = decode_utf8(text.data() + i);
    const bool starts = starts_unit(c.value);
    if (starts) unit_start = i;
    i += size_t(c.length);
    if (c.value < 0x80 || (starts && form == Form::nfc)) continue;
    while (i < text.size()) {  // the rest of the unit
      c = decode_utf8(text.data() + i);
      if (starts_unit(c.value)) break;
      i += size_t(c.length);
    }
    unit.clear();
    const std::string_view before = text.substr(unit_start, i - unit_start);
    append_unit(options, before, unit);
    if (unit == before) continue;
    changed = true;
    out += text.substr(copied, unit_start - copied);
    out += unit;
    copied = i;
  }
  if (changed) out += text.substr(copied);
  return changed;
}

}  // namespace blockgtq
