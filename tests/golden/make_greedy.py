#!/usr/bin/env python3
# Greedy continuations by transformers: 128 tokens in float32 of every model of data/models, behind the first 48 tokens of
# data/texts/evaluation.txt.   make_greedy.py DATA OUT.json    (transformers 5.24.0, torch 2.9.1, CPU)
import json, os, sys
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

data, out = sys.argv[1:3]
text = open(f'{data}/texts/evaluation.txt', encoding='utf-8').read()[:4000]
torch.set_num_threads(1)
result = {}
for name in sys.argv[3:] or sorted(os.listdir(f'{data}/models')):
    folder = name if os.path.isdir(name) else f'{data}/models/{name}'
    if not os.path.exists(f'{folder}/config.json'):
        continue
    prompt = Tokenizer.from_file(f'{folder}/tokenizer.json').encode(text, add_special_tokens=False).ids[:48]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        got = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=128, min_new_tokens=128, eos_token_id=None,
                             pad_token_id=0, output_logits=True, return_dict_in_generate=True)
    top = torch.stack([torch.topk(l[0], 2).values for l in got.logits])
    result[os.path.basename(name)] = {'prompt': prompt, 'ids': got.sequences[0, len(prompt):].tolist(),
                                      'least_margin': float((top[:, 0] - top[:, 1]).min())}
    print(name, result[os.path.basename(name)]['least_margin'], flush=True)
open(out, 'w').write('{\n' + ',\n'.join(f' {json.dumps(k)}: {json.dumps(v)}' for k, v in result.items()) + '\n}\n')
