#include "hf/safetensors_writer.h"

#include <cstring>

#include "base/temp_folder.h"
#include "catch.h"
#include "hf/safetensors.h"

namespace blockgtq {

TEST_CASE("what is written tensor by tensor reads back, data at a multiple of 8") {
  TempFolder dir;
  const std::string a = "abcdefghijklmnopqrstuvwx", b = "yz";
  for (const std::string name : {"x", "x\"y", "a longer name"}) {
    OutputFile file(dir / "t.safetensors", true);
    SafetensorsWriter writer(
        file, {{name, "F32", {2, 3}, a.size()}, {"empty", "F16", {0, 4}, 0}, {"z", "BF16", {}, 2}},
        {{"format", "pt"}});
    for (const std::string& bytes : {a.substr(0, 5), a.substr(5), b})
      writer.write(std::as_bytes(std::span(bytes)));
    writer.finish();
    file.commit();

    const MappedFile mapped(dir / "t.safetensors");
    const std::vector<Tensor> tensors = read_safetensors(mapped);
    REQUIRE(tensors.size() == 3);
    CHECK(tensors[0].name == name);
    CHECK(tensors[0].shape == std::vector<int64_t>{2, 3});
    CHECK(std::memcmp(tensors[0].data.data(), a.data(), a.size()) == 0);
    CHECK((tensors[0].data.data() - mapped.bytes().data()) % 8 == 0);
    CHECK(tensors[1].elements() == 0);
    CHECK(tensors[2].dtype == DType::bf16);
    CHECK(std::memcmp(tensors[2].data.data(), b.data(), b.size()) == 0);
  }
}

TEST_CASE("a safetensors file holds neither more nor less than its header says") {
  TempFolder dir;
  OutputFile file(dir / "t.safetensors", false);
  SafetensorsWriter writer(file, {{"x", "F32", {1}, 4}}, {});
  const std::string five = "12345";
  CHECK_THROWS_AS(writer.write(std::as_bytes(std::span(five))), std::logic_error);
  CHECK_THROWS_AS(writer.finish(), std::logic_error);
}

}  // namespace blockgtq
