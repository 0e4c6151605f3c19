"""A decoding step of a transformers model as one CUDA graph."""

import torch

from .binding import Error


class DecodeGraph:
    """One token of every sequence in, its logits out, without the processor's work per layer.

        cache = BlockGtqCache("map.h5", max_length=8192)
        logits = model(prompt, past_key_values=cache, use_cache=True).logits[:, -1]
        step = DecodeGraph(model, cache)
        for _ in range(100):
            logits = step(logits.argmax(-1))

    Make it behind the prompt. Between its calls the cache is not to be changed by others. Raises Error where the cache
    is empty, on the CPU, or without max_length.
    """

    def __init__(self, model, cache):
        s = cache.sequences
        if s.max_length is None or s.n == 0 or s.device.type != "cuda" or s.n == s.max_length:
            raise Error("a CUDA graph is made of a cache on a GPU that holds a prompt, with a larger max_length")
        self.model, self.cache, self.n = model, cache, s.n
        self.ids = torch.zeros(s.batch, 1, dtype=torch.long, device=s.device)
        self.graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream(s.device)
        stream.wait_stream(torch.cuda.current_stream(s.device))
        with torch.no_grad():
            with torch.cuda.stream(stream):  # what allocates at first use does so here
                for _ in range(2):
                    self._forward()
                    cache.set_length(self.n)
            torch.cuda.current_stream(s.device).wait_stream(stream)
            with torch.cuda.graph(self.graph):
                self.logits = self._forward()
        cache.set_length(self.n)

    def _forward(self):
        positions = (self.cache.sequences.counts[0] + 1).long()[:, None]
        return self.model(self.ids, position_ids=positions, past_key_values=self.cache, use_cache=True).logits[:, -1]

    def __call__(self, ids):
        """ids (B). Returns logits (B, vocab), which are valid until the next call."""
        s = self.cache.sequences
        if s.n != self.n:
            raise Error(f"the cache holds {s.n} tokens, the graph is at {self.n}")
        if s.n == s.max_length:
            raise Error(f"{s.n + 1} tokens, max_length is {s.max_length}", "pages")
        self.ids.copy_(ids[:, None])
        self.graph.replay()
        self.n += 1
        s.n = self.n  # the counts on the device are the graph's own
        for layer in self.cache.layers:
            layer.n = self.n
        return self.logits
