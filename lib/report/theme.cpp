#include "report/theme.h"

#include <fmt/format.h>

#include <algorithm>

namespace blockgtq {

const Theme kLight = {
    .page = "#f5f6f8",
    .surface = "#ffffff",
    .ink = "#1a1f26",
    .muted = "#57616d",
    .rule = "#dfe3e8",
    .good = "#146c43",
    .bad = "#b3261e",
    .bar = "#bfe3cf",
    .series = {"#7b8794", "#1f5fd0", "#c2571a", "#0f7d68", "#8a46c4", "#b5305f", "#7a6a00", "#0b7d97"}};
const Theme kDark = {
    .page = "#0e1116",
    .surface = "#171b21",
    .ink = "#e7eaee",
    .muted = "#a0aab6",
    .rule = "#2c333c",
    .good = "#5fd497",
    .bad = "#ff8e85",
    .bar = "#1e4d37",
    .series = {"#93a0ae", "#6ba4ff", "#f29a5c", "#46cbaa", "#c49af2", "#f580a5", "#d8c552", "#57c7e3"}};
const std::string_view kFont =
    "system-ui,-apple-system,\"Segoe UI\",Roboto,\"Helvetica Neue\",Arial,sans-serif";

namespace {

std::string svg_colors(const Theme& t, int n_series) {
  std::string css = fmt::format(
      ".bq-bg{{fill:{}}}.bq-ink{{fill:{}}}.bq-mut{{fill:{}}}.bq-cut{{stroke:{}}}.bq-grid{{stroke:{}}}.bq-"
      "axis{{stroke:{}}}",
      t.surface, t.ink, t.muted, t.surface, t.rule, t.muted);
  for (int i = 0; i < std::min(n_series, int(t.series.size())); ++i)
    css += fmt::format(".bq-s{0}{{stroke:{1};fill:{1}}}", i, t.series[i]);
  return css;
}

std::string page_variables(const Theme& t) {
  return fmt::format(
      ":root{{--page:{};--surface:{};--ink:{};--muted:{};--rule:{};--good:{};--bad:{};--bar:{};--accent:{}}}",
      t.page, t.surface, t.ink, t.muted, t.rule, t.good, t.bad, t.bar, t.series[1]);
}

constexpr std::string_view kPageRules = R"(
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font-size:15px;line-height:1.5;-webkit-text-size-adjust:100%}
main{max-width:1160px;margin:0 auto;padding:40px 20px 56px}
h1{font-size:28px;line-height:1.2;letter-spacing:-.015em;margin:0 0 10px}
h2{font-size:20px;letter-spacing:-.01em;margin:44px 0 12px}
h3{font-size:16px;margin:18px 0 8px}
header h3{margin:0}
p{margin:0 0 10px}
.lead{max-width:76ch;font-size:16px}
.note,.arch{color:var(--muted);font-size:13px}
.note{max-width:100ch;margin-top:14px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,250px),1fr));gap:14px;margin:26px 0 0}
.tile,.card,.scroll{background:var(--surface);border:1px solid var(--rule);border-radius:10px}
.tile{padding:16px 18px}
.tile .what{font-size:13px;font-weight:600;color:var(--muted)}
.tile .big{font-size:17px;line-height:1.3;font-weight:600;font-variant-numeric:tabular-nums}
.tile .big b{font-size:31px;letter-spacing:-.02em}
.tile .fine{font-size:13px;color:var(--muted)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:14px;font-variant-numeric:tabular-nums}
th,td{padding:7px 10px;text-align:right;white-space:nowrap;border-top:1px solid var(--rule)}
thead th{border-top:0;color:var(--muted);font-size:12.5px;font-weight:600;vertical-align:bottom}
thead th{white-space:normal}
th.text,td.text{text-align:left}
td.text{white-space:normal}
th:first-child{text-align:left;position:sticky;left:0;background:var(--surface)}
tbody th{font-weight:600}
tbody th a{color:inherit;text-decoration:none}
tbody th a:hover{text-decoration:underline}
tfoot th,tfoot td{border-top:2px solid var(--rule);font-weight:650}
.better{color:var(--good)}
.worse,.failed td{color:var(--bad)}
.failed td{text-align:left;white-space:normal}
.bar{min-width:150px}
.bar span{display:grid;grid-template-columns:1fr 56px;align-items:center;gap:8px}
.bar i{display:block;height:12px;border-radius:3px;background:var(--bar);justify-self:start}
.bar.worse i{background:none;border:1px solid var(--bad)}
.card{padding:18px 20px;margin:0 0 18px}
.card header{display:flex;flex-wrap:wrap;align-items:baseline;gap:2px 14px;margin-bottom:12px}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,320px),1fr));gap:10px 22px;align-items:start}
.plots.large{grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr))}
.plots svg{display:block;width:100%;height:auto;max-width:560px}
.plots.large svg{max-width:480px}
.figure{padding:10px 12px;margin:18px 0}
.figure svg{display:block;height:auto;margin:0 auto}
.chart svg{width:100%;min-width:620px;max-width:920px}
pre.command{white-space:pre-wrap;overflow-wrap:anywhere}
.dense{font-size:13px}
.dense th,.dense td{padding:6px 7px}
.choose{margin:0 0 18px}
.choose label{display:block;font-size:13.5px;font-weight:600;color:var(--muted);margin:4px 0 10px}
button,select,#save a{font:inherit;font-size:13px;color:var(--ink);background:var(--surface);border:1px solid var(--rule);
border-radius:6px;padding:4px 10px;cursor:pointer}
select{max-width:100%}
#save a{display:inline-block;text-decoration:none}
th button{all:unset;cursor:pointer}
th button:focus-visible,button:focus-visible,select:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
th button::after{content:"↕";opacity:.35;margin-left:4px}
th[aria-sort=ascending] button::after{content:"↑";opacity:1}
th[aria-sort=descending] button::after{content:"↓";opacity:1}
.flags{margin:14px 0 0;padding-left:20px;max-width:100ch}
details{margin-top:12px}
summary{cursor:pointer;color:var(--accent);font-size:13.5px;width:fit-content}
summary:focus-visible,a:focus-visible,.scroll:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
details .scroll{margin-top:10px;border-radius:6px}
details th,details td{padding:4px 9px;font-size:13px}
.error{color:var(--bad);margin:0;overflow-wrap:anywhere}
pre{background:var(--surface);border:1px solid var(--rule);border-radius:10px;padding:12px 16px;overflow-x:auto;font-size:13px}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace}
dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 18px;font-size:13.5px;margin:14px 0}
dt{color:var(--muted)}
dd{margin:0;overflow-wrap:anywhere}
@media (max-width:560px){main{padding:24px 12px 40px}h1{font-size:24px}.card{padding:14px 12px}th,td{padding:6px 9px}
.bar{min-width:112px}dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:6px}}
@media print{body{background:none}main{max-width:none;padding:0}.tile,tr,svg,figure{break-inside:avoid}
h2,h3,header{break-after:avoid}.scroll{overflow:visible}table{font-size:11px}th,td{padding:3px 6px}thead{display:table-header-group}
button,#save,details:not([open]){display:none}select{appearance:none;border:0;padding:0}.bar i{print-color-adjust:exact}
th button{display:inline}th button::after{content:""}.chart svg{min-width:0}.map svg{max-width:100%}}
)";

}  // namespace

std::string svg_style(int n_series) {
  return fmt::format(
      "<style>.bq text{{font:11px {}}}.bq "
      ".bq-h{{font-size:13px;font-weight:600}}.bq-line{{fill:none!important;stroke-width:1.8;"
      "stroke-linejoin:round}}.bq-hit{{fill-opacity:0;stroke:none!important}}\n{}\n@media "
      "(prefers-color-scheme:dark){{{}}}</style>\n",
      kFont, svg_colors(kLight, n_series), svg_colors(kDark, n_series));
}

std::string page_style() {
  const std::string charts = svg_style(int(kLight.series.size()));
  const size_t begin = std::string_view("<style>").size();
  return fmt::format(
             ":root{{color-scheme:light dark;font-family:{}}}\n{}\n@media "
             "(prefers-color-scheme:dark){{{}}}\n{}",
             kFont, page_variables(kLight), page_variables(kDark),
             charts.substr(begin, charts.find("</style>") - begin))
      .append(kPageRules);
}

}  // namespace blockgtq
