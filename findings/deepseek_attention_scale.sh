#!/usr/bin/env bash
# transformers 5.2.0 and 5.24.0 compute different numbers from one DeepSeek-V2 checkpoint: where the config's yarn scaling
# has mscale_all_dim, as the published ones do, 5.24.0 multiplies the attention scores by the square of the yarn mscale and
# 5.2.0 does not. Without that key both agree. So golden activations of this family are worth what their version is; the
# original modelling code of the checkpoints has the factor.
#
# Seen (torch 2.9.1, CPU, float32, random weights): largest difference of logits 1e-5 without the key, 3.1 with it.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
pip=("$dir/venv/bin/python" -m pip --disable-pip-version-check -q)
"${pip[@]}" install torch==2.9.1 numpy
for version in 5.2.0 5.24.0; do
  "${pip[@]}" install --target "$dir/$version" "transformers==$version"
done
cat > "$dir/run.py" <<'PY'
import sys
import numpy as np
import torch
import transformers
from transformers import DeepseekV2Config, DeepseekV2ForCausalLM

out = {}
for key in (False, True):
    yarn = dict(rope_type="yarn", rope_theta=10000.0, factor=40.0, original_max_position_embeddings=64, beta_fast=32, beta_slow=1)
    if key:
        yarn.update(mscale=0.707, mscale_all_dim=0.707)
    config = DeepseekV2Config(vocab_size=64, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
                              num_key_value_heads=2, kv_lora_rank=16, q_lora_rank=None, qk_nope_head_dim=16, qk_rope_head_dim=16,
                              v_head_dim=16, n_routed_experts=2, first_k_dense_replace=2, max_position_embeddings=2560,
                              rope_parameters=yarn)
    model = DeepseekV2ForCausalLM(config).eval()
    random = np.random.default_rng(1)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            fresh = random.normal(size=tuple(weight.shape)) * (0.3 if weight.ndim > 1 else 0.05) + (weight.ndim == 1)
            weight.copy_(torch.tensor(fresh, dtype=torch.float32))
        out[str(key)] = model(torch.arange(32)[None]).logits.numpy()
np.savez(sys.argv[1], **out)
print(transformers.__version__)
PY
for version in 5.2.0 5.24.0; do
  PYTHONPATH="$dir/$version" "$dir/venv/bin/python" "$dir/run.py" "$dir/$version.npz"
done
"$dir/venv/bin/python" - "$dir/5.2.0.npz" "$dir/5.24.0.npz" <<'PY'
import sys
import numpy as np
a, b = (np.load(f) for f in sys.argv[1:])
off = {key: float(np.abs(a[key] - b[key]).max()) for key in ("False", "True")}
print(f"largest difference of logits: {off['False']:.2g} without mscale_all_dim, {off['True']:.2g} with it")
assert off["False"] < 1e-3, "the versions differ without the key too"
assert off["True"] > 0.1, "the versions agree now"
PY
