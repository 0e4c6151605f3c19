#!/usr/bin/env bash
# The "id" of an added token in tokenizer.json is not what decides its id.
#
# tokenizers 0.23.3: a token in "added_tokens" that the vocabulary does not have gets the vocabulary's SIZE (plus those added before
# it) as its id. The "id" written beside it is ignored, without a word, and where the vocabulary has holes the new id can lie below
# ids that are taken, or be one of them. A reader of tokenizer.json that trusts the "id" gives other ids than the library.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tokenizers==0.23.3
"$folder/venv/bin/python" - <<'PYTHON'
import json
from tokenizers import Tokenizer, models

text = json.loads(Tokenizer(models.BPE(vocab={"a": 0, "b": 10, "c": 20}, merges=[])).to_str())
text["added_tokens"] = [{"id": 77, "content": "<x>", "single_word": False, "lstrip": False, "rstrip": False,
                         "normalized": False, "special": True}]
ids = Tokenizer.from_str(json.dumps(text)).encode("a<x>b").ids
print('vocabulary of 3 with ids 0, 10, 20; "<x>" is written with id 77; "a<x>b" gives', ids)
assert ids == [0, 3, 10], "the behaviour has changed"
PYTHON
