#pragma once
#include <string>
#include <vector>

namespace blockgtq {

/// One layer's rotation (D, D) and the eigenvalues (D) of the moment that it was made from.
struct LayerRotation {
  int number = 0;  // the model's
  std::vector<float> rotation, eigenvalues;
};

/// What torch.save writes of {"format_version": 1, "objective": ..., "source_grouping": "layer", "layers":
/// {number: {"layer_id": number, "rotation": tensor (D, D), "eigenvalues": tensor (D)}}}: a ZIP archive of a
/// pickle (protocol 2) and the tensors' numbers, which torch.load takes with weights_only, too.
std::string torch_rotations(const std::vector<LayerRotation>& layers, const std::string& objective);
/// The rotations of such a file, of just these layers and of D = dim. Exit::input with `file` for any other.
std::vector<LayerRotation> read_torch_rotations(const std::string& bytes, const std::vector<int>& numbers,
                                                int dim, const std::string& file);

}  // namespace blockgtq
