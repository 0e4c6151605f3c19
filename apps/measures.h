#pragma once
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace blockgtq {

/// One number of a result: what it was measured on, its name and how sure it is.
struct Measure {
  std::vector<std::string> key;  // values of Measures::columns
  std::string metric;            // as the document names it
  double value = 0;
  double low = std::numeric_limits<double>::quiet_NaN();  // its interval; NaN: none is known
  double high = std::numeric_limits<double>::quiet_NaN();
  std::vector<double> layers = {};  // (L) whose mean the value is; empty where they are not known
};

/// What one document of ours measured.
struct Measures {
  std::string path, schema;
  std::vector<std::string> columns;  // that tell one Measure from another: model, bits, method, ...
  std::vector<Measure> all;          // in the document's order
  std::vector<std::pair<std::string, std::string>> run;  // what else the document says of the run
};

/// Reads what eval-logits, panel, perplexity and bench write by --json. Exit::input for other schemas, for a
/// number that is measured twice and for a document that lacks what its schema has.
Measures read_measures(const std::string& path);

}  // namespace blockgtq
