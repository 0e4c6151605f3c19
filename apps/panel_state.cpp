#include "panel_state.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/sha256.h"
#include "store/map_file.h"

namespace blockgtq {
namespace {

constexpr size_t kMaxStateBytes = 64 << 20;
constexpr const char *kMapDigest = "map_sha256", *kDigest = "sha256";

/// Of a result with everything but its own digest, as dump_json writes it.
std::string digest_of(Json result) {
  result.erase(kDigest);
  return sha256_hex(dump_json(result));
}

std::string digest_of_file(const fs::path& path) {
  return sha256_hex(MappedFile(path).text());
}

std::string text_of(const Json& json, const char* key) {
  const auto found = json.find(key);
  return found != json.end() && found->is_string() ? found->get<std::string>() : "";
}

}  // namespace

PanelState::PanelState(const fs::path& folder, const std::string& name)
    : json_(folder / (name + ".json")), map_(folder / (name + ".map.h5")) {}

bool PanelState::exists() const {
  std::error_code error;
  return fs::exists(json_, error);
}

std::optional<Json> PanelState::load(const std::string& signature, std::string& damage) const {
  try {
    Json result = read_json(json_, kMaxStateBytes);
    if (!result.is_object() || text_of(result, kDigest) != digest_of(result))
      fail_input("{}: not as it was written", json_.string());
    if (text_of(result, "signature") != signature) return std::nullopt;
    if (text_of(result, kMapDigest) != digest_of_file(map_))
      fail_input("{}: not as it was written", map_.string());
    result.erase(kDigest);
    result.erase(kMapDigest);
    return result;
  } catch (const Error& e) {
    damage = e.what();
    return std::nullopt;
  }
}

PanelState::Writer::Writer(const PanelState& state) : map_(state.map_, true), json_(state.json_, true) {}

void PanelState::Writer::save(const Json& result, const BitMap& map) {
  write_map(map_.temporary(), map);
  Json state = result;
  state[kMapDigest] = digest_of_file(map_.temporary());
  state[kDigest] = digest_of(state);
  json_.write(dump_json(state));
  OutputFile* const files[] = {&map_, &json_};
  commit_all(files);
}

}  // namespace blockgtq
