#include "command.h"

namespace blockgtq {

TEST_CASE("bench attention, prefill and encode: bad values are usage errors, no such device is code 5") {
  struct Case {
    std::vector<std::string> args;
    int code;
    std::string says;
  };
  const Case cases[] = {
      {{"bench", "attention", "--bits", "K9V3"}, 2, "--bits: 'K9V3' is not"},
      {{"bench", "attention", "--bits", "3"}, 2, "--bits: '3' is not"},
      {{"bench", "encode", "--bits", "K3"}, 2, "whole bits of keys and of values"},
      {{"bench", "prefill", "--bits", "K2.5V3"}, 2, "whole bits of keys and of values"},
      {{"bench", "attention", "--context", "4x"}, 2, "--context: 4x"},
      {{"bench", "attention", "--context", "0"}, 2, "--context: 0"},
      {{"bench", "attention", "--batch", "1,two"}, 2, "--batch: two"},
      {{"bench", "attention", "--keys", "odd"}, 2, "--keys: odd"},
      {{"bench", "attention", "--heads", "15", "--kv-heads", "2"}, 2, "no multiple"},
      {{"bench", "attention", "--sink", "65"}, 2, "--sink: 65"},
      {{"bench", "attention", "--recent", "-1"}, 2, "--recent"},
      {{"bench", "prefill", "--chunk", "many"}, 2, "--chunk: many"},
      {{"bench", "prefill", "--context", "4x"}, 2, "--context: 4x"},
      {{"bench", "prefill", "--heads", "15", "--kv-heads", "2"}, 2, "no multiple"},
      {{"bench", "encode", "--keys", "odd"}, 2, "--keys: odd"},
      {{"bench", "encode", "--keys", "fp16"}, 2, "--keys: fp16"},
      {{"bench", "encode", "--head-dim", "100"}, 2, "--head-dim"},
      {{"bench", "prefill", "--keys", "fp16"},
       2,
       "--keys: fp16: uniform, mixed, published, centred or trellis"},
      {{"bench", "prefill", "--keys", "trellis", "--bits", "K1V2"}, 2, "--bits: K1V2: trellis codes"},
      {{"bench", "attention", "--keys", "trellis", "--head-dim", "96"}, 2, "--head-dim: 96: trellis"},
      {{"bench", "encode", "--keys", "uniform,trellis", "--bits", "K3V3,K3V5"}, 2, "--bits: K3V5: trellis"},
      {{"bench", "attention", "--centres", "0,3"}, 2, "--centres: 3: 0, or a power of two from 2 to 256"},
      {{"bench", "encode", "--centres", "512"}, 2, "--centres: 512: 0, or a power of two from 2 to 256"},
      {{"bench", "attention", "--keys", "trellis", "--device", "cuda:99"}, 5, ""},
      {{"bench", "attention", "--device", "cuda:99"}, 5, ""},
      {{"bench", "prefill", "--device", "cuda:99"}, 5, ""},
      {{"bench", "encode", "--device", "cuda:99"}, 5, ""},
      {{"bench", "decode", "--batch", "1"}, 2, "one of --shape and -m is expected"},
      {{"bench", "decode", "--shape", "gpt-5"}, 2, "--shape: 'gpt-5' is none of qwen2.5-3b, "},
      {{"bench", "decode", "--shape", "qwen3-4b", "--kv", "fp16,K3"}, 2, "--kv: K3: whole bits"},
      {{"bench", "decode", "--shape", "qwen3-4b", "--context", "64"}, 2, "--context: 64: at least 128"},
      {{"bench", "decode", "--shape", "qwen3-4b", "--batch", "17"}, 2, "--batch: 17: at most 16 sequences"},
      {{"bench", "decode", "--shape", "qwen3-4b", "--sink", "4"}, 2, "--sink: 4: whole pages"},
      {{"bench", "decode", "--shape", "qwen3-4b", "--keys", "trellis", "--kv", "fp16,K5V3"},
       2,
       "--kv: K5V3: "},
      {{"bench", "decode", "--shape", "qwen3-4b", "--device", "cuda:99"}, 5, ""},
  };
  for (const Case& c : cases) {
    const Outcome outcome = blockgtq(c.args);
    INFO(c.args[1] << " " << c.args[2] << " " << c.args.back() << ": " << outcome.err);
    CHECK(outcome.code == c.code);
    CHECK(error_lines(outcome) == 1);
    CHECK_THAT(outcome.err, ContainsSubstring(c.says));
    CHECK(outcome.out.empty());
  }
}

}  // namespace blockgtq
