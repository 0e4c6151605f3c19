#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/json.h"
#include "cache_spec.h"
#include "eval/divergence.h"
#include "model_set.h"
#include "report/table.h"

namespace blockgtq {

/// One cache on one model.
struct CacheQuality {
  CacheSpec spec;
  double key_bytes = 0, value_bytes = 0;  // per token, of what is quantized, all layers
  Quality quality;
};

/// A cache that the calibration text chose to stand against a reference at the same bytes.
struct Choice {
  CacheSpec reference, chosen;           // both are in ModelQuality::caches
  std::vector<CacheQuality> candidates;  // as measured on the calibration text
};

/// What perplexity found on one model.
struct ModelQuality {
  std::string name;
  Provenance provenance;
  Codebook codebook = Codebook::by_method;
  bool pages = false;  // caches are as pages hold them
  int64_t n_tokens = 0, chunk = 0;
  std::string device;
  Quality exact;  // against itself: the noise floor
  std::vector<CacheQuality> caches;
  std::vector<Choice> choices;
  Json map;  // for a page: {"bit_shares", "heads"} of the map (report/map_view.h); null without one
};

/// Schema blockgtq.perplexity/1.
Json quality_json(const std::vector<ModelQuality>& models, const std::vector<ModelFailure>& failures);

/// One row per cache.
Table quality_table(const ModelQuality& model);
/// One row per model and cache, numbers in full.
Table quality_rows(const std::vector<ModelQuality>& models);
/// What a cache costs and does, geometric means over models.
struct CacheMean {
  CacheSpec spec;
  double bytes = 0, kl = 0;  // per token, of keys and values; the mean KL
};
/// Over the models that ran every cache, in the order of the fullest one. `left_out` takes the names of the
/// others.
std::vector<CacheMean> cache_means(const std::vector<ModelQuality>& models,
                                   std::vector<std::string>& left_out);
/// Mean KL of cache_means: a row per pair of methods, a column per pair of bits.
Table quality_grid(const std::vector<ModelQuality>& models, std::vector<std::string>& left_out);
/// Chosen against reference: a row per model and reference, then the geometric means of the ratio.
Table choice_table(const std::vector<ModelQuality>& models);

}  // namespace blockgtq
