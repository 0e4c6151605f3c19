// On a GPU: a step that was captured once attends to what lengths and block tables say when it is replayed.
#include "capi/served.h"
#ifdef BLOCKGTQ_CUDA
#include "kernels/device/graph.h"

using namespace blockgtq;
using namespace blockgtq::test;

TEST_CASE("a captured step", "[capi][graph]") {
  for (const std::string& device : devices())
    for (const Kind& kind : kinds())
      for (const blockgtq_dtype type : {BLOCKGTQ_F16, BLOCKGTQ_BF16}) {
        if (device == "cpu") continue;
        INFO(device << ": " << text(kind) << ", type " << type);
        constexpr int64_t kCapacity = 300;
        Served served(kind, device, 2, kCapacity);
        const int64_t width = 2 * served.width(), q_width = 2 * served.q_width();
        served.encode(served.normal(50 * width), served.normal(50 * width), 50, {0, 0});
        Array k = served.array(width, type), v = served.array(width, type), q = served.array(q_width, type),
              out = served.array(q_width, type);
        const auto starts = served.place.memory(std::vector<int32_t>{0, 0}),
                   lengths = served.place.memory(std::vector<int32_t>{0, 0});
        blockgtq_encode_args encode = served.encode_args(k, v, 1, *starts);
        blockgtq_decode_args decode{};
        decode.struct_size = sizeof decode;
        decode.flags = BLOCKGTQ_JUST_ENCODED;
        decode.layer = served.layer;
        decode.batch = 2;
        decode.pages = served.pages(lengths.get(), nullptr, kCapacity);
        decode.q = q.tensor;
        decode.out = out.tensor;
        decode.stream = served.place.stream();
        const auto for_encode = served.give_scratch(encode, blockgtq_encode_scratch),
                   for_decode = served.give_scratch(decode, blockgtq_decode_scratch);
        const cuda::Stream stream(served.place.stream());
        blockgtq_status answers[2];
        const cuda::Graph step(stream, [&] {
          answers[0] = blockgtq_encode(served.cache, &encode);
          answers[1] = blockgtq_decode(served.cache, &decode);
        });
        INFO(blockgtq_last_error());
        REQUIRE(answers[0] == BLOCKGTQ_OK);
        REQUIRE(answers[1] == BLOCKGTQ_OK);
        for (int32_t t = 50; t < 53; ++t) {
          const auto key = rounded(served.normal(width), type), value = rounded(served.normal(width), type),
                     query = rounded(served.normal(q_width), type);
          const auto put = [&](Array& to, const std::vector<float>& x) {
            const auto bytes = encoded(x, type);
            to.memory->put(bytes.data(), bytes.size());
          };
          put(k, key), put(v, value), put(q, query);
          const int32_t at[] = {t, t}, held[] = {t + 1, t + 1};
          starts->put(at, sizeof at);
          lengths->put(held, sizeof held);
          step.replay(stream);
          stream.synchronize();
          const auto got = served.get(out, q_width);
          // The same step as calls of their own, over pages that it has written.
          const auto want = served.decode(query, {t + 1, t + 1}, type);
          CHECK(distance(got, {want.begin(), want.end()}) <
                2e-3 + (type == BLOCKGTQ_BF16 ? 0x1p-8 : 0x1p-11));
          const auto last = served.read(t, 1);
          CHECK(distance(last.v, {value.begin(), value.end()}) <
                0.6);  // the token is there: codes of 2 bits at least
        }
      }
}
#endif
