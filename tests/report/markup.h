#pragma once
#include <string>

/// Checks that a text is well-formed markup: every element closed in order, attributes quoted and once per
/// element, no bare '<' or '&'. Returns "" or what is wrong and where. `text` is given all characters outside
/// of tags, `style` and `script` elements left out.
std::string markup_error(const std::string& markup, std::string* text = nullptr);

size_t count(const std::string& text, const std::string& part);
