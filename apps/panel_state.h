#pragma once
#include <optional>
#include <string>

#include "base/file.h"
#include "base/json.h"
#include "quant/bit_map.h"

namespace blockgtq {

/// What a panel's folder keeps of one model: models/NAME.json and models/NAME.map.h5. The JSON carries the
/// digest of the map and one of itself: it counts only as it was written.
class PanelState {
 public:
  PanelState(const fs::path& folder, const std::string& name);

  const fs::path& path() const { return json_; }
  bool exists() const;
  /// The result saved under this signature; else nothing, and where a file is not as it was written one line
  /// in `damage` says so.
  std::optional<Json> load(const std::string& signature, std::string& damage) const;

  /// Both files, begun before the result is computed: what cannot be written fails first.
  class Writer {
   public:
    explicit Writer(const PanelState& state);
    void save(const Json& result, const BitMap& map);  // both appear together

   private:
    OutputFile map_, json_;
  };

 private:
  fs::path json_, map_;
};

}  // namespace blockgtq
