#!/usr/bin/env bash
# A config.json that transformers 5 saves loads in transformers 4 with another RoPE, in silence.
#
# transformers 5.24.0 writes theta and scaling of RoPE under "rope_parameters" alone. transformers 4.57.3 takes the unknown key for an
# attribute that nothing reads: theta is 10000 again, and a llama3 scaling is gone. There is no warning, and the model type is the same.
# A cache that was calibrated by one of them is not that of the other: with theta 1e6 every frequency but the first differs.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for version in 5.24.0 4.57.3; do
  python3 -m venv "$folder/$version"
  "$folder/$version/bin/pip" install --quiet "transformers==$version"
done
"$folder/5.24.0/bin/python" - "$folder" <<'PYTHON'
import json, sys
from transformers import LlamaConfig, Qwen3Config

folder = sys.argv[1]
Qwen3Config(rope_parameters={"rope_type": "default", "rope_theta": 1e6}).save_pretrained(folder + "/qwen3")
LlamaConfig(rope_parameters={"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                             "original_max_position_embeddings": 8192}, max_position_embeddings=131072).save_pretrained(folder + "/llama")
for name in ("qwen3", "llama"):
    saved = json.load(open(f"{folder}/{name}/config.json"))
    print(name, "saved by 5.24.0:", {key: value for key, value in saved.items() if "rope" in key})
    assert "rope_theta" not in saved and "rope_scaling" not in saved, "the behaviour has changed"
PYTHON
"$folder/4.57.3/bin/python" - "$folder" <<'PYTHON'
import sys, warnings
from transformers import AutoConfig

warnings.simplefilter("error")
for name in ("qwen3", "llama"):
    config = AutoConfig.from_pretrained(f"{sys.argv[1]}/{name}")
    print(name, "read by 4.57.3: theta", config.rope_theta, "scaling", config.rope_scaling)
    assert config.rope_theta == 1e4 and config.rope_scaling is None, "the behaviour has changed"
PYTHON
