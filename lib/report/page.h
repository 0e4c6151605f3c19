#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"

namespace blockgtq {

/// A report as one HTML file: style, script, charts and data inside, nothing from elsewhere, light and dark.
/// Every element is closed, so that strict parsers read it too. Its tables sort where they have the class
/// `sort`. The text of `html` parts is markup already: what comes from outside goes through escape() first.
struct Page {
  std::string title;  // text
  std::string lead;   // html
  std::string body;   // html: sections
  std::string command;
  std::vector<std::pair<std::string, Json>> provenance;  // name (may be empty) and an object of facts
  std::string version;
  Json data;  // the document of --json, found again as <script id="data">
};
std::string page_html(const Page& page);

/// <h2> and what stands below; nothing where that is empty.
std::string page_section(const std::string& title, const std::string& html);

/// A table in a box that scrolls sideways where it must; `cls` may be "sort".
std::string page_table(const std::string& label, const std::string& html, const char* cls = "sort");

/// A chart of ours without its own style sheet: the page has the rules of all.
std::string page_chart(const std::string& svg);
/// The same in a box of its own: a "chart" as wide as the page, a "map" as wide as its cells ask for.
std::string page_figure(const std::string& svg, const char* kind = "chart");

/// One of several parts is shown, by its name: a list to choose from stands above. A part that occurs in
/// several places has its marks (choice_mark) there.
std::string page_choice(const std::string& label, const std::string& html);
/// The attributes of a part's element; all but the first are hidden at first.
std::string choice_mark(const std::string& name, bool first);

/// <dl> of an object's keys and values.
std::string page_facts(const Json& object);

/// The script of every page: no '<' and no '&' in it.
extern const char* const kPageScript;

}  // namespace blockgtq
