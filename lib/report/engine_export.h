#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "quant/bit_map.h"

namespace blockgtq {

/// A map as an engine can express it.
struct EngineExport {
  std::string bytes;          // of the file
  std::vector<uint8_t> bits;  // (L, H, B) what each block of the keys gets, by width; kUnquantized where it
                              // stays in 16 bits
};
inline constexpr uint8_t kUnquantized = 16;

struct EngineOptions {
  std::string type;     // what EngineFormat::types lists, BASE or BASE,PROTECTED; empty: by the map's average
  int layers = 4;       // how many layers are protected, where a format has no more than that
  std::string version;  // of blockgtq, for formats that name their producer
};

/// A file that an inference engine reads. Every format has a source file of its own, which names the reader.
struct EngineFormat {
  const char* name;
  const char* types;  // for help and errors; empty: there is nothing to choose
  /// Exit::usage for a type that it does not have, Exit::input for a map that it cannot express at all.
  EngineExport (*write)(const BitMap& map, const Budget& budget, const EngineOptions& options);
  /// EngineExport::bits of such a file, read as the engine reads it. Exit::input names the file and what the
  /// engine would refuse.
  std::vector<uint8_t> (*read)(const std::string& bytes, const BitMap& map, const Budget& budget,
                               const std::string& file);
};
const std::vector<EngineFormat>& engine_formats();
/// Null for a name that is none of theirs.
const EngineFormat* find_engine_format(const std::string& name);

/// What is lost between a map and what an engine can express.
struct ProjectionLoss {
  double bits = 0;       // average per coordinate of what the engine expresses
  double of_map = 0;     // of the map
  double error = 0;      // sum of energy * 4^-bits over the map's; a block in 16 bits has no error
  double even = 0;       // the same of every block at the map's average
  double unchanged = 0;  // share of blocks that keep the map's bits
};
ProjectionLoss projection_loss(const BitMap& map, const Budget& budget, const std::vector<uint8_t>& bits);
/// One line: "3.50 bits per coordinate for 3.00; predicted error 0.62 times the map's ..."
std::string describe(const ProjectionLoss& loss);

/// The map with these bits in place of the budget's, for measuring what they do. Exit::input where a block
/// has no width that a map can hold.
BitMap projected_map(const BitMap& map, const Budget& budget, const std::vector<uint8_t>& bits,
                     const std::string& format);

}  // namespace blockgtq
