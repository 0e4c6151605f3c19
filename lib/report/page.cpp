#include "report/page.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "report/chart.h"
#include "report/theme.h"

namespace blockgtq {
namespace {

/// On one line, and nothing in it that markup or a script's end is made of: JSON has these only in strings.
std::string json_text(const Json& data) {
  std::string out;
  for (const char c : data.dump(-1, ' ', false, Json::error_handler_t::replace)) {
    if (c == '<' || c == '>' || c == '&')
      out += fmt::format("\\u{:04x}", int(c));
    else
      out += c;
  }
  return out;
}

std::string origin(const Page& page) {
  std::string out;
  if (!page.command.empty())
    out += fmt::format("<pre class=\"command\" tabindex=\"0\"><code>{}</code></pre>\n", escape(page.command));
  for (const auto& [name, facts] : page.provenance) {
    if (!name.empty()) out += fmt::format("<h3>{}</h3>\n", escape(name));
    out += page_facts(facts);
  }
  return out + "<p id=\"save\"></p>\n";
}

}  // namespace

std::string page_html(const Page& page) {
  std::string out =
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
      // nothing of a page is fetched, whatever a name in it says
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
      "script-src 'unsafe-inline'\"/>\n";
  out += fmt::format("<title>{}</title>\n<style>\n{}</style></head>\n<body><main>\n<h1>{}</h1>\n",
                     escape(page.title), page_style(), escape(page.title));
  if (!page.lead.empty()) out += fmt::format("<p class=\"lead\">{}</p>\n", page.lead);
  out += page.body + page_section("How it was made", origin(page));
  return out + fmt::format(
                   "<p class=\"note\">blockgtq {}</p>\n</main>\n"
                   "<script type=\"application/json\" id=\"data\">{}</script>\n<script>{}</script>\n"
                   "</body></html>\n",
                   escape(page.version), json_text(page.data), kPageScript);
}

std::string page_section(const std::string& title, const std::string& html) {
  return html.empty() ? "" : fmt::format("<section>\n<h2>{}</h2>\n{}</section>\n", escape(title), html);
}

std::string page_table(const std::string& label, const std::string& html, const char* cls) {
  return fmt::format(
      "<div class=\"scroll\" role=\"region\" aria-label=\"{}\" tabindex=\"0\"><table class=\"{}\">\n{}"
      "</table></div>\n",
      escape(label), cls, html);
}

std::string page_chart(const std::string& svg) {
  const size_t begin = svg.find("<style>"), end = svg.find("</style>");
  if (begin == svg.npos || end == svg.npos) return svg;
  return svg.substr(0, begin) + svg.substr(end + std::string_view("</style>").size());
}

std::string page_figure(const std::string& svg, const char* kind) {
  if (svg.empty()) return "";
  return fmt::format("<div class=\"scroll figure {}\">{}</div>\n", kind, page_chart(svg));
}

std::string page_choice(const std::string& label, const std::string& html) {
  return fmt::format("<div class=\"choose\" data-choose=\"{}\">\n{}</div>\n", escape(label), html);
}

std::string choice_mark(const std::string& name, bool first) {
  return fmt::format("data-choice=\"{}\"{}", escape(name), first ? "" : " style=\"display:none\"");
}

std::string page_facts(const Json& object) {
  std::string out;
  for (const auto& [key, value] : object.items())
    out += fmt::format("<dt>{}</dt><dd>{}</dd>\n", escape(key),
                       escape(value.is_string() ? value.get<std::string>() : value.dump()));
  return out.empty() ? "" : "<dl>\n" + out + "</dl>\n";
}

}  // namespace blockgtq
