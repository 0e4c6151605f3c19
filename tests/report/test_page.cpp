#include "report/page.h"

#include <nlohmann/json.hpp>

#include "catch.h"
#include "markup.h"
#include "report/chart.h"
#include "report/table.h"
#include "samples.h"

using namespace blockgtq;

namespace {

const std::string kEnd = "</script><script>alert(1)</script><!--";

Page sample_page() {
  Page page;
  page.title = kNasty;
  page.lead = "A <b>lead</b>";
  page.body = page_section(kEnd, "<p>text</p>\n");
  page.command = "blockgtq x -m '" + kEnd + "'";
  page.provenance = {{kEnd, {{kNasty, kEnd}, {"list", {1, 2}}}}};
  page.version = "0.1.0";
  page.data = {{"name", kEnd + kNasty}, {"value", 1.0 / 3}};
  return page;
}

/// What stands between an opening tag and the next closing one of its name.
std::string inside(const std::string& html, const std::string& open, const std::string& close) {
  const size_t begin = html.find(open) + open.size();
  return html.substr(begin, html.find(close, begin) - begin);
}

}  // namespace

TEST_CASE("page: one file, well-formed, nothing from elsewhere; no name breaks out") {
  const std::string html = page_html(sample_page());
  std::string text;
  CHECK(markup_error(html, &text) == "");
  CHECK(count(html, "<script") == 2);  // the data and our own
  CHECK(html.find("alert(1)</script") == std::string::npos);
  CHECK(html.find("<!--") == std::string::npos);
  CHECK_THAT(html, ContainsSubstring("default-src 'none'"));
  for (const char* outside : {"<link", "<img", "src=", "url(", "@import", "http://", "https://"})
    CHECK(html.find(outside) == std::string::npos);
  CHECK_THAT(text, ContainsSubstring("A lead") && ContainsSubstring("blockgtq 0.1.0"));
  CHECK(page_html(sample_page()) == html);
}

TEST_CASE("page: the data inside reads back as it was") {
  const Page page = sample_page();
  const std::string data =
      inside(page_html(page), "<script type=\"application/json\" id=\"data\">", "</script>");
  CHECK(data.find_first_of("<>&") == std::string::npos);
  CHECK(Json::parse(data) == page.data);
}

TEST_CASE("page: bytes that are not UTF-8 do not end it") {
  Page page = sample_page();
  page.title =
      "a\xff"
      "b";
  page.data = {{"path",
                "a\xff"
                "b"}};
  const std::string html = page_html(page);
  CHECK(markup_error(html) == "");
  CHECK(html.find('\xff') == std::string::npos);
}

TEST_CASE("page: the script is markup's friend") {
  CHECK(std::string(kPageScript).find_first_of("<&") == std::string::npos);
}

TEST_CASE("page: a chart without its own style, parts to choose from, empty sections") {
  const std::string chart = line_chart({"t", "x", "y", {1, 2}, {{"a", {1, 2}}}});
  CHECK_THAT(chart, ContainsSubstring("<style>"));
  CHECK(page_chart(chart).find("<style>") == std::string::npos);
  CHECK(markup_error(page_chart(chart)) == "");
  CHECK(page_section("title", "").empty());
  CHECK(page_figure("").empty());
  CHECK(choice_mark("0", true) == "data-choice=\"0\"");
  CHECK(choice_mark("1", false) == "data-choice=\"1\" style=\"display:none\"");
}

TEST_CASE("table as HTML: a head to sort by, columns of numbers, everything escaped") {
  Table table({"model", "KL", "method"});
  table.row({kNasty, "0.5 ± 0.1", "tq-mse"});
  table.row({"b", "", "x<y"});
  const std::string html = table.html("a \"label\"");
  CHECK(markup_error(html) == "");
  CHECK_THAT(html, ContainsSubstring("class=\"sort\"") && ContainsSubstring("a &quot;label&quot;"));
  CHECK_THAT(html, ContainsSubstring("<th scope=\"col\" class=\"number\">KL</th>"));
  CHECK_THAT(html, ContainsSubstring("<th scope=\"row\">" + escape(kNasty) + "</th><td>0.5 ± 0.1</td>"));
  CHECK_THAT(html, ContainsSubstring("<td class=\"text\">x&lt;y</td>"));
}
