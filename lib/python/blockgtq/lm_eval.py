"""lm-eval over a BlockGtqCache: python -m blockgtq.lm_eval ARGUMENTS, where --model blockgtq is one more model.

    python -m blockgtq.lm_eval run --model blockgtq --tasks hellaswag \
        --model_args pretrained=MODEL,map=map.h5,pair=K3V3

model_args are those of lm-eval's `hf` and of BlockGtqCache. lm-eval scores texts in one forward pass, so their tokens
are one prompt. prefill_chunk is 1 here: every token sees those before it as the pages hold them, as in decoding. A
larger one is faster, and shows less of what the cache does: 2048 shows nothing of it in texts that are no longer.
"""

import torch
from lm_eval.__main__ import cli_evaluate
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM

from .kv_cache import BlockGtqCache


@register_model("blockgtq")
class BlockGtqLM(HFLM):
    """A Hugging Face model over packed pages. batch_size above 1: for tasks that score texts, not for those that write
    them, whose batches lm-eval pads on the left."""

    def __init__(self, map, pair=None, key_method=None, value_method=None, code=None, codebook=None, sink=0, recent=0,
                 prefill_chunk=1, **model):
        super().__init__(attn_implementation="blockgtq", **model)
        self.kv_cache = BlockGtqCache(map, pair=pair, key_method=key_method, value_method=value_method, code=code,
                                      codebook=codebook, sink=int(sink), recent=int(recent),
                                      prefill_chunk=int(prefill_chunk), config=self.model.config)

    def _empty_cache(self):
        self.kv_cache.reset()
        return self.kv_cache

    def _model_call(self, inps, attn_mask=None, labels=None):
        dtype = self.mixed_precision_dtype
        with torch.no_grad(), torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None):
            return self.model(inps, past_key_values=self._empty_cache(), use_cache=True).logits

    def _model_generate(self, context, max_length, stop, **generation_kwargs):
        return super()._model_generate(context, max_length, stop, past_key_values=self._empty_cache(),
                                       **generation_kwargs)


if __name__ == "__main__":
    cli_evaluate()
