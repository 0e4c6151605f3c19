#!/usr/bin/env bash
# FP8 weights whose rows are no multiple of the block: transformers reads other numbers than the config says.
#
# quantization_config names blocks of 128 x 128, and scales are (ceil(rows / 128), ceil(cols / 128)): the last blocks are cut off, as
# DeepSeek-V3's kv_a_proj_with_mqa (576 rows, 5 rows of scales) has them. transformers 5.24.0 with torch 2.15.0, dequantizing on a CPU,
# takes rows / (rows of scales) for the height of a block instead: a matrix of 192 rows with two rows of scales changes its scale at
# row 96 and not at row 128, without a word. Where that is no whole number (576 / 5) it raises an error.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.15.0 transformers==5.24.0 accelerate==1.15.0 safetensors==0.8.0
cat > "$folder/show.py" <<'PYTHON'
import json, pathlib, sys, torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

folder = pathlib.Path(sys.argv[1])
config = LlamaConfig(vocab_size=32, hidden_size=128, intermediate_size=192, num_hidden_layers=1, num_attention_heads=2,
                     num_key_value_heads=2, tie_word_embeddings=True)
tensors = {}
for name, value in LlamaForCausalLM(config).state_dict().items():
    if name.endswith("_proj.weight"):
        rows, cols = value.shape
        grid = torch.ones(-(-rows // 128), -(-cols // 128))
        if name.endswith("gate_proj.weight"):
            grid[1] = 2
        tensors[name] = torch.ones(rows, cols).to(torch.float8_e4m3fn)
        tensors[name + "_scale_inv"] = grid
    elif name != "lm_head.weight":
        tensors[name] = value.clone()
save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
text = config.to_dict() | {"architectures": ["LlamaForCausalLM"], "quantization_config": {
    "quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}}
(folder / "config.json").write_text(json.dumps(text))
weight = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).model.layers[0].mlp.gate_proj.weight
found = [row for row in range(1, 192) if weight[row, 0] != weight[row - 1, 0]]
print("192 rows of 8-bit ones, scales 1 and 2, blocks of 128: the value changes at row", found)
assert found == [96], "the behaviour has changed"
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "$folder"
