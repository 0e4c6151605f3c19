#!/usr/bin/env bash
# In transformers an attention function of one's own reads padding, unless a mask function of the same name is registered too.
#
# AttentionInterface.register("mine", f) is enough to run a model with attn_implementation="mine". But masks are made by the function
# that AttentionMaskInterface has under that name. Where there is none, f gets attention_mask=None, whatever mask the model was called
# with, and nothing is said. A prompt padded on the left then attends to its padding: its logits are others than those of the same prompt
# alone. With sdpa's function registered under the name they are the same. Every cache that brings its own attention meets this.
#
# Seen (transformers 5.24.0, torch 2.11.0, CPU, float32, random weights): largest difference of the last logits 7.0 without a mask
# function, 3.5e-6 with one.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.11.0 transformers==5.24.0
"$folder/venv/bin/python" - <<'PYTHON'
import torch
import transformers
from transformers import AttentionInterface, AttentionMaskInterface, LlamaConfig, LlamaForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

masks = []


def mine(module, query, key, value, attention_mask, **more):
    masks.append(attention_mask)
    return sdpa_attention_forward(module, query, key, value, attention_mask, **more)


AttentionInterface.register("mine", mine)
torch.manual_seed(0)
config = LlamaConfig(vocab_size=96, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
                     num_key_value_heads=2, initializer_range=0.3)
model = LlamaForCausalLM(config).eval()
model.set_attn_implementation("mine")
prompt = torch.randint(1, 96, (1, 10))
padded = torch.cat([torch.zeros(1, 6, dtype=torch.long), prompt], 1)
mask = (torch.arange(16) >= 6).long()[None]
positions = (mask.cumsum(1) - 1).clamp(min=0)


def difference():
    """Of the last logits: the prompt alone, and behind six masked positions."""
    masks.clear()
    with torch.no_grad():
        alone = model(prompt).logits[0, -1]
        behind = model(padded, attention_mask=mask, position_ids=positions).logits[0, -1]
    return (alone - behind).abs().max().item(), masks[-1]


without, seen = difference()
print(f"transformers {transformers.__version__}, torch {torch.__version__}")
print(f"no mask function: mask {seen}, largest difference {without:.1e}")
assert seen is None and without > 1e-3, "the behaviour has changed"
AttentionMaskInterface.register("mine", sdpa_mask)
with_one, seen = difference()
print(f"sdpa's mask function: mask of shape {tuple(seen.shape)}, largest difference {with_one:.1e}")
assert seen is not None and with_one < 1e-4, "the behaviour has changed"
PYTHON
