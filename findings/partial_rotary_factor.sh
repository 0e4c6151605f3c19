#!/usr/bin/env bash
# partial_rotary_factor in the config of a Llama counts or not, by the kind of RoPE.
#
# transformers 5.24.0 with torch 2.15.0: under the default RoPE of LlamaForCausalLM (as of Mistral, Qwen2 and Qwen3) the key is accepted
# and ignored: the whole head turns, and the logits are those without it. Beside rope_type "linear" or "dynamic" the same key halves the
# table of frequencies, but not what is turned, and the forward pass raises an error. A reader of config.json that follows the key
# everywhere computes another model than transformers does.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.15.0 transformers==5.24.0
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from transformers import LlamaConfig, LlamaForCausalLM

def run(**rope):
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=32, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4,
                                         num_key_value_heads=2, rope_parameters={"rope_theta": 1e4, **rope}))
    try:
        with torch.no_grad():
            logits = model(torch.arange(8)[None]).logits
    except RuntimeError as error:
        logits = str(error)
    return model.model.rotary_emb.inv_freq.numel(), logits

whole, half = run(rope_type="default"), run(rope_type="default", partial_rotary_factor=0.5)
print("heads of 16, default RoPE: frequencies without and with partial_rotary_factor 0.5:", whole[0], half[0])
print("the same logits:", torch.equal(whole[1], half[1]))
linear = run(rope_type="linear", factor=2.0, partial_rotary_factor=0.5)
print("linear RoPE with it:", linear[0], "frequencies;", linear[1])
assert (whole[0], half[0], linear[0]) == (8, 8, 4) and torch.equal(whole[1], half[1]), "the behaviour has changed"
assert isinstance(linear[1], str), "the behaviour has changed"
PYTHON
