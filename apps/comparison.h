#pragma once
#include <string>
#include <vector>

#include "measures.h"

namespace blockgtq {

/// B over A, of numbers that both hold.
struct Ratio {
  double value =
      std::numeric_limits<double>::quiet_NaN();  // NaN where A is 0 and B is not, or one is not finite
  double low = std::numeric_limits<double>::quiet_NaN();  // 95 %; NaN: none is known
  double high = std::numeric_limits<double>::quiet_NaN();
};

struct ComparedRow {
  std::vector<std::string> key;
  std::string metric;
  double a = 0, b = 0;
  Ratio ratio;
};

/// The geometric mean over models of the rows that differ in nothing else.
struct ComparedMean {
  std::vector<std::string> key;  // without the model
  std::string metric;
  int n = 0;    // rows
  Ratio ratio;  // the interval is over rows, from three on
  double least = 0, most = 0;
};

/// Two documents of one schema, side by side.
struct Comparison {
  std::vector<std::string> columns;         // of the keys
  std::vector<ComparedRow> rows;            // in the order of A
  std::vector<ComparedMean> means;          // empty where there is but one model
  std::vector<std::string> only_a, only_b;  // keys with metrics that one alone holds
  std::vector<std::string> run;             // "tokens: 2048 and 1024": in what else the runs differ
};

/// Where both are of one model the model's name is no part of the keys. Exit::input for documents of
/// different schemas and for documents without a common number.
Comparison compare(Measures a, Measures b);

/// "tokens: 2048 and 1024" of every name whose values differ.
using Facts = std::vector<std::pair<std::string, std::string>>;
std::vector<std::string> differences(const Facts& a, const Facts& b);

/// The ratio of two numbers. With the layers of both its interval is over layers, paired; with intervals of
/// both it is made from them as if they were independent of each other, which is too wide where both saw the
/// same text.
Ratio ratio(const Measure& a, const Measure& b);

}  // namespace blockgtq
