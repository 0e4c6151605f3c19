#include "allocator_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "decimal.h"
#include "options.h"
#include "quant/bit_map.h"
#include "quant/codebook.h"

namespace blockgtq {
namespace {

/// An option and a key of panel.json. Texts are one of `allowed`, or a list of widths; numbers bits or
/// groups.
struct Field {
  const char* key;
  std::string AllocatorOptions::*text;
  int AllocatorOptions::*number;
  std::vector<std::string> allowed;
  const char* what;

  std::string option() const {
    std::string name = fmt::format("--{}", key);
    std::replace(name.begin() + 2, name.end(), '_', '-');
    return name;
  }
  std::string value(const AllocatorOptions& o) const { return text ? o.*text : fmt::format("{}", o.*number); }
};

const std::vector<Field>& fields() {
  using O = AllocatorOptions;
  static const std::vector<Field> all = {
      {"cost",
       &O::cost,
       nullptr,
       {"nominal", "packed", "page"},
       "What a budget counts: nominal (bits alone, as published; default with --bits), packed (norms and "
       "padding too; default with a budget of bytes), page (as in a page of 64 tokens)"},
      {"norms",
       &O::norms,
       nullptr,
       {"group", "key"},
       "fp16 norms that a key is charged for: one per group, or one per key"},
      {"allocator",
       &O::allocator,
       nullptr,
       {"greedy", "exact", "mixing"},
       "greedy (as published), exact (optimum of the same sum, with the codebook's distortions), mixing "
       "(least logit error, the rotation inside a group included)"},
      {"min_bits", nullptr, &O::min_bits, {}, "Fewest bits of a block"},
      {"max_bits", nullptr, &O::max_bits, {}, "Most bits of a block"},
      {"allowed_bits",
       &O::allowed_bits,
       nullptr,
       {},
       "The widths a block may have, as 2,3,4,8 (allocators exact and mixing)"},
      {"max_groups", nullptr, &O::max_groups, {}, "Most groups of a head (allocators exact and mixing)"},
      {"group_blocks",
       nullptr,
       &O::group_blocks,
       {},
       "Blocks of a group: a multiple of this. 8: whole slabs, which the packed cache's kernels read fastest "
       "(allocators exact and mixing)"},
      {"share",
       &O::share,
       nullptr,
       {"head", "layer", "model"},
       "Who spends one budget: each head its own, or the heads of a layer or of the model together"},
      {"equal",
       &O::equal,
       nullptr,
       {"head", "layer", "model"},
       "Give all heads of a layer or of the model the same bytes, whatever they share"}};
  return all;
}

/// "2,3,4,8" -> ascending widths without repetition; empty: every one.
std::vector<int> parse_widths(const std::string& text) {
  if (text.empty()) return width_range(1, kMaxBits);
  std::vector<int> widths;
  for (const std::string& part : split(text, ',')) {
    if (part.size() != 1 || part[0] < '1' || part[0] > '0' + kMaxBits)
      throw Error(
          Exit::usage,
          fmt::format("--allowed-bits: '{}' is not a width of 1 to {} bits (2,3,4,8)", part, kMaxBits),
          part == "0" ? "every block of a key keeps at least one bit" : "");
    widths.push_back(part[0] - '0');
  }
  std::sort(widths.begin(), widths.end());
  widths.erase(std::unique(widths.begin(), widths.end()), widths.end());
  return widths;
}

/// One value of a panel.json, into the options.
void read_field(const Field& field, const Json& value, AllocatorOptions& o, const std::string& where) {
  auto is_width = [](const Json& v) { return v.is_number_integer() && v >= 1 && v <= kMaxBits; };
  if (field.number) {
    if (!is_width(value)) fail_input("{}: {} found, 1 to {} allowed", where, value.dump(), kMaxBits);
    o.*field.number = value.get<int>();
  } else if (!field.allowed.empty()) {
    const std::string text = value.is_string() ? value.get<std::string>() : "";
    if (std::find(field.allowed.begin(), field.allowed.end(), text) == field.allowed.end())
      fail_input("{}: {} found, {} allowed", where, value.dump(), fmt::join(field.allowed, ", "));
    o.*field.text = text;
  } else {
    if (!value.is_array() || value.empty() || !std::all_of(value.begin(), value.end(), is_width))
      fail_input("{}: {} found, a list of widths of 1 to {} bits wanted", where, value.dump(), kMaxBits);
    o.*field.text = fmt::format("{}", fmt::join(value.get<std::vector<int>>(), ","));
  }
}

}  // namespace

void add_allocator_options(CLI::App& command, AllocatorOptions& o) {
  for (const Field& field : fields()) {
    CLI::Option* option = field.text ? command.add_option(field.option(), o.*field.text, field.what)
                                     : command.add_option(field.option(), o.*field.number, field.what);
    if (field.number) option->check(in_range(1, kMaxBits));
    if (!field.allowed.empty()) option->check(CLI::IsMember(field.allowed));
    option->capture_default_str();
  }
}

void add_centres_option(CLI::App& command, int& centres) {
  command
      .add_option(
          "--centres", centres,
          "Centres of keys and of values in the map, for tq-mse-centres: a power of two to 256; 1: none. "
          "Every one wants some 16 calibration tokens")
      ->check([](const std::string& text) -> std::string {
        const int64_t n = parse_whole(text).value_or(0);
        return n >= 1 && n <= kMaxCentres && std::has_single_bit(uint64_t(n))
                   ? ""
                   : fmt::format("'{}' is not a power of two from 1 to {}", text, kMaxCentres);
      })
      ->capture_default_str();
}

AllocatorOptions allocator_options(const Json& json, const std::string& file) {
  if (!json.is_object()) fail_input("{}: allocation: {} has the wrong type", file, json.dump());
  AllocatorOptions o;
  for (const auto& [key, value] : json.items()) {
    const auto& all = fields();
    const auto field =
        std::find_if(all.begin(), all.end(), [&key = key](const Field& f) { return f.key == key; });
    if (field == all.end()) {
      std::vector<std::string> known;
      for (const Field& f : all) known.push_back(f.key);
      fail_input("{}: allocation: unknown key {}: {}", file, key, fmt::join(known, ", "));
    }
    read_field(*field, value, o, fmt::format("{}: allocation: {}", file, key));
  }
  try {
    share_spec(o);
  } catch (const Error& e) {
    throw Error(Exit::input, fmt::format("{}: allocation: {}", file, e.what()), e.hint);
  }
  return o;
}

AllocatorOptions given_over(const CLI::App& command, const AllocatorOptions& given, AllocatorOptions below) {
  for (const Field& field : fields()) {
    if (command.count(field.option()) == 0) continue;
    if (field.text)
      below.*field.text = given.*field.text;
    else
      below.*field.number = given.*field.number;
  }
  return below;
}

std::string difference(const AllocatorOptions& o, const AllocatorOptions& from) {
  std::string text;
  for (const Field& field : fields())
    if (field.value(o) != field.value(from)) text += fmt::format(" {} {}", field.option(), field.value(o));
  return text;
}

ShareSpec share_spec(const AllocatorOptions& o, CostKind cost) {
  ShareSpec spec;
  spec.share = parse_scope(o.share);
  spec.equal = parse_scope(o.equal);
  AllocatorSpec& a = spec.allocator;
  a.allocator = parse_allocator(o.allocator);
  a.cost.kind = o.cost.empty() ? cost : parse_cost(o.cost);
  a.cost.norms = parse_norms(o.norms);
  a.max_groups = o.max_groups;
  a.group_blocks = o.group_blocks;
  if (o.min_bits > o.max_bits)
    throw Error(Exit::usage, fmt::format("bits per block: {} to {} found, a range within 1 to {} allowed",
                                         o.min_bits, o.max_bits, kMaxBits));
  a.widths.clear();
  for (const int w : parse_widths(o.allowed_bits))
    if (w >= o.min_bits && w <= o.max_bits) a.widths.push_back(w);
  check_allocator(a);
  return spec;
}

}  // namespace blockgtq
