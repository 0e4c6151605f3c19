// Seven trained models against an independent implementation (see the note attribute of the files): all of Q
// and K of the first 64 test tokens, and their logits. Runs where the shared folder is.
#include <fmt/format.h>
#include <hdf5.h>

#include <cmath>
#include <filesystem>

#include "base/file.h"
#include "catch.h"
#include "model/backend.h"
#include "worse.h"

namespace {

using namespace blockgtq;
using test::worse;

template <class T>
std::vector<T> read_dataset(hid_t file, const std::string& name, hid_t type) {
  const hid_t set = H5Dopen2(file, name.c_str(), H5P_DEFAULT);
  REQUIRE(set >= 0);
  const hid_t space = H5Dget_space(set);
  std::vector<T> out(size_t(H5Sget_simple_extent_npoints(space)));
  const bool ok = H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, out.data()) >= 0;
  H5Sclose(space);
  H5Dclose(set);
  REQUIRE(ok);
  return out;
}

/// |got - want| / |want| over as many values as want has
double relative_error(const float* got, const std::vector<float>& want) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    difference += std::pow(double(got[i]) - double(want[i]), 2);
    norm += std::pow(double(want[i]), 2);
  }
  return std::sqrt(difference / norm);
}

void compare(const std::string& name) {
  const std::string path = std::string(BLOCKGTQ_SHARED_DIR) + "/golden/" + name + ".h5";
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  REQUIRE(file >= 0);
  std::vector<int32_t> tokens = read_dataset<int32_t>(file, "tokens_test", H5T_NATIVE_INT32);
  tokens.resize(256);
  const Checkpoint model(std::string(BLOCKGTQ_SOURCE_DIR) + "/data/models/" + name);
  double worst_q = 0, worst_k = 0, logit_error = -1;
  int layers = 0;
  ForwardRequest request;
  request.tokens = tokens;
  request.on_layer = [&](LayerActivations& acts) {
    const std::string group = fmt::format("layer{:02}", acts.layer);
    worst_q =
        worse(worst_q, relative_error(acts.q, read_dataset<float>(file, group + "/q", H5T_NATIVE_FLOAT)));
    worst_k =
        worse(worst_k, relative_error(acts.k, read_dataset<float>(file, group + "/k", H5T_NATIVE_FLOAT)));
    ++layers;
  };
  request.on_logits = [&](int64_t first, int64_t n, const float* logits) {
    REQUIRE(first == 0);
    REQUIRE(n == 256);
    logit_error = relative_error(logits, read_dataset<float>(file, "logits_test", H5T_NATIVE_FLOAT));
  };
  make_cpu_backend()->forward(model, request);
  H5Fclose(file);
  INFO(fmt::format("{}: q {:.2e}, k {:.2e}, logits {:.2e}", name, worst_q, worst_k, logit_error));
  CHECK(layers == model.config().n_layers);
  CHECK(worst_q <= 1e-4);
  CHECK(worst_k <= 1e-4);
  CHECK(logit_error >= 0);
  CHECK(logit_error <= 1e-3);
}

}  // namespace

TEST_CASE("all of Q, K and the logits of the seven reference models", "[golden]") {
  if (!fs::exists(fs::path(BLOCKGTQ_SHARED_DIR) / "golden")) {
    WARN("no reference files in " BLOCKGTQ_SHARED_DIR ": compared with forward.json alone");
    return;
  }
  for (const char* name : {"tiny-deepseek2", "tiny-glm", "tiny-llama3", "tiny-mistral", "tiny-qwen2",
                           "tiny-qwen3", "tiny-qwen3-moe"})
    compare(name);
}
