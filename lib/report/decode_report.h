#pragma once
#include <string>

#include "base/json.h"
#include "report/chart.h"
#include "report/table.h"

namespace blockgtq {

/// Of a document of `bench decode` (schema blockgtq.bench-decode/1): milliseconds per step over the context,
/// a line per cache and batch, each beside the floor that its bytes set.
Chart decode_chart(const Json& document);

/// The page; table: what the command prints.
std::string decode_html(const Json& document, const Table& table, const std::string& command,
                        const std::string& version);

}  // namespace blockgtq
