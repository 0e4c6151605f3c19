"""BlockGtqCache: the key-value cache of a transformers model, in packed pages."""

from dataclasses import dataclass
from functools import partial

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from . import ops
from .attention import check_config, register
from .binding import BLOCK_SIZE, Error
from .page_format import PageFormat

register()


def _pages_of(positions):
    return -(-positions // BLOCK_SIZE)


@dataclass
class Exact:
    """What lies where in sequences with exact positions, before a step or a chunk: see blockgtq_split."""

    table: torch.Tensor  # (B, columns)
    lengths: torch.Tensor  # (B)
    packed_lengths: torch.Tensor  # (B)
    starts: torch.Tensor  # (B)


@dataclass
class Chunk:
    """Tokens of a prompt that are read together: at [first, end) of each sequence."""

    first: int
    end: int
    starts: torch.Tensor  # (B), all of them `first`
    exact: Exact | None  # of the prefix
    exact_writes: list  # (first, end, starts): positions that go into fp16 pages, and where


class Sequences:
    """What the layers of a cache share: B sequences of one length, and the numbers of their pages.

    Sequence b's page j has the number j B + b in every layer, so that sequences grow without new numbers.
    """

    def __init__(self, format, open_on, sink, recent, max_length, prefill_chunk):
        self.format, self.open_on = format, open_on
        self.sink, self.recent, self.max_length, self.prefill_chunk = sink, recent, max_length, prefill_chunk
        self.exact_columns = format.library.exact_columns(sink, recent) if sink or recent else 0
        if self.exact_columns < 0:
            raise Error(f"sink {sink}, recent {recent}: expected: a multiple of {BLOCK_SIZE}, and not below 0")
        self.n = self.batch = self.columns = 0
        self.device = self.layout = None  # layout: another object after every change of what pages there are
        self.chunks = []  # of the forward pass that runs; none: it is a step
        self.behind = 0  # layers that this pass has not reached yet
        self.attending = None  # the layer whose update() was not followed by attention yet
        self.captured = False  # a CUDA graph is made of this pass: numbers in its calls must hold for every length

    def begin(self, states):
        """A forward pass over new tokens begins. states (B, H, T, D), of its first layer."""
        batch, _, tokens, _ = states.shape
        n = self.n + tokens
        if self.max_length is not None and n > self.max_length:
            raise Error(f"{n} tokens, max_length is {self.max_length}", "pages")
        self.captured = False
        if self.n == 0 and (batch, states.device) != (self.batch, self.device):
            self._take_device(states.device)
            self.resize(batch)
        if batch != self.batch:
            raise Error(f"a batch of {batch}, the cache holds {self.batch} sequences")
        needed = _pages_of(max(n, self.sink))
        if self.columns < needed:
            more = self.columns * 3 // 2 if self.max_length is None else _pages_of(self.max_length)
            self.lay_out(max(needed, more))
        if tokens == 1 and self.n > 0:
            self._begin_step()
        else:
            ends = [*range(self.n + self.prefill_chunk, n, self.prefill_chunk), n]
            self.chunks = [self._chunk(first, end) for first, end in zip([self.n, *ends], ends)]
            self.set_length(n)
        self.behind = self.format.n_layers

    def set_length(self, n):
        self.n = n
        self.counts[0].fill_(n - 1)
        self.counts[1].fill_(n)

    def _take_device(self, device):
        if device != ops.device_of(self.format):
            if self.open_on is None:
                raise Error(f"keys on {device}, the page format is for {ops.device_of(self.format)}", "device")
            self.format = self.open_on(str(device))
        self.device = device

    def resize(self, batch):
        """Another number of sequences."""
        self.batch, self.columns = batch, 0
        self.counts = torch.zeros(2, batch, dtype=torch.int32, device=self.device)  # the last position, the length
        if self.exact_columns:
            self.exact_pages = self._numbers(self.exact_columns)
            self.step_exact = self._exact()

    def lay_out(self, columns):
        """Pages for 64 `columns` positions of every sequence."""
        self.columns, self.block_table, self.layout = columns, self._numbers(columns), object()

    def _numbers(self, columns):
        """(B, columns): j B + b."""
        numbers = torch.arange(columns * self.batch, dtype=torch.int32, device=self.device)
        return numbers.view(columns, self.batch).t().contiguous()

    def _exact(self):
        counts = [torch.empty(self.batch, dtype=torch.int32, device=self.exact_pages.device) for _ in range(3)]
        return Exact(torch.empty_like(self.exact_pages), *counts)

    def _split(self, held, exact):
        ops.split(self.format, held, self.exact_pages, self.sink, self.recent, exact.packed_lengths, exact.lengths,
                  exact.starts, exact.table)
        return exact

    def _begin_step(self):
        self.chunks = []
        self.captured = self.device.type == "cuda" and torch.cuda.is_current_stream_capturing()
        self.n += 1
        self.counts.add_(1)
        if self.exact_columns:
            self._split(self.counts[0], self.step_exact)

    def _full(self, value):
        return torch.full((self.batch,), value, dtype=torch.int32, device=self.device)

    def _chunk(self, first, end):
        exact, writes = None, []
        if self.exact_columns:
            exact = self._split(self._full(first - 1), self._exact())
            writes = [(a, b, self._full(place)) for a, b, place in self._exact_places(first, end)]
        return Chunk(first, end, self._full(first), exact, writes)

    def _exact_places(self, first, end):
        """Positions of a chunk that go into fp16 pages: (first, end, the place of `first`)."""
        packed_end = partial(self.format.library.packed_end, self.sink, self.recent)
        if first < self.sink:
            yield first, min(end, self.sink), first
        ring = BLOCK_SIZE * (self.exact_columns - 1) - self.sink
        t = max(first, packed_end(end)) if ring else end
        while t < end:
            place = (t - packed_end(first)) % ring
            piece_end = min(end, t + ring - place)
            yield t, piece_end, self.sink + place
            t = piece_end

    @property
    def exact_longest(self):
        return self.sink + (self.recent + BLOCK_SIZE - 1 if self.recent else 0)


class BlockGtqLayer(CacheLayerMixin):
    """The pages of one layer."""

    is_sliding = False
    supports_early_init = False

    def __init__(self, sequences, index):
        super().__init__()
        self.sequences, self.index, self.n = sequences, index, 0
        self.pages = self.exact_pages = self.layout = None
        self.sinks = None  # (Hq) float32, of attention with learned sinks
        self.checked = False  # against the model, at its first attention

    @property
    def is_croppable(self):
        return self.sequences.recent == 0

    def lazy_initialization(self, key_states, value_states):
        """Makes pages, or more of them."""
        s = self.sequences
        self.is_initialized, self.layout = True, s.layout
        self.pages = self._grown(self.pages, s.columns, s.format.layers[self.index].page_pitch)
        self.exact_pages = self._grown(self.exact_pages, s.exact_columns, s.format.exact_page_bytes)

    def _grown(self, pages, columns, page_bytes):
        s = self.sequences
        n_pages = columns * s.batch
        if pages is not None and pages.shape[0] == n_pages and pages.device == s.device:
            return pages
        more = torch.empty(n_pages, page_bytes, dtype=torch.uint8, device=s.device)
        if pages is not None and self.n > 0:
            more[: pages.shape[0]] = pages
        return more

    def update(self, key_states, value_states, *args, **kwargs):
        """Takes note of the new tokens and hands them on; attention, which follows, writes them into pages."""
        s = self.sequences
        tokens = key_states.shape[-2]
        if self.n + tokens != s.n:
            raise Error(f"layer {self.index}: {tokens} new tokens behind {self.n}, the cache is at {s.n}; "
                        "where a forward pass failed, reset() empties the cache")
        if self.layout is not s.layout:
            self.lazy_initialization(key_states, value_states)
        self.n = s.n
        s.behind -= 1
        s.attending = self
        key_states.blockgtq_layer = self  # for attention()
        return key_states, value_states

    def attend(self, q, k, v, scale=0.0, sinks=None):
        """Attention of the new tokens, which go into the pages. q (B, T, Hq, D), k and v (B, T, H, D)."""
        s = self.sequences
        s.attending = None
        rule = {"scale": scale, "sinks": sinks}
        if not s.chunks:
            return self._step(q, k, v, rule)
        start = s.chunks[0].first
        parts = []
        for chunk in s.chunks:
            piece = slice(chunk.first - start, chunk.end - start)
            parts.append(self._read_chunk(chunk, q[:, piece], k[:, piece], v[:, piece], rule))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _first_page(self, position):
        """The first page that a query at this position sees, of packed ones."""
        s = self.sequences
        window = s.format.layers[self.index].window
        before = max(0, position + 1 - window) if window and not s.exact_columns and not s.captured else 0
        return max(s.sink, before) // BLOCK_SIZE

    def _exact_arguments(self, exact):
        s = self.sequences
        return {"lengths": exact.packed_lengths, "exact_pages": self.exact_pages, "exact_table": exact.table,
                "exact_lengths": exact.lengths, "exact_longest": s.exact_longest, "exact_first": s.sink}

    def _step(self, q, k, v, rule):
        s = self.sequences
        more = {"lengths": s.counts[1]}
        if s.exact_columns:
            more = {**self._exact_arguments(s.step_exact), "exact_starts": s.step_exact.starts}
        longest = max(s.max_length if s.captured else s.n, s.sink)
        first_page = self._first_page(s.n - 1)
        step, format = ops.step, s.format
        if torch.compiler.is_compiling():
            step, format = torch.ops.blockgtq.step, s.format.id
        return step(format, self.index, q, k, v, self.pages, s.block_table, s.counts[0], longest=longest,
                    first_page=first_page, **rule, **more)

    def _read_chunk(self, chunk, q, k, v, rule):
        s = self.sequences
        prefix = {}
        if chunk.first > 0:
            prefix = {"pages": self.pages, "block_table": s.block_table, "lengths": chunk.starts,
                      "longest": max(chunk.first, s.sink), "first_page": self._first_page(chunk.first)}
            if chunk.exact:
                prefix.update(self._exact_arguments(chunk.exact))
        out = ops.prefill(s.format, self.index, q, k, v, **prefix, **rule)
        ops.encode(s.format, self.index, k, v, self.pages, s.block_table, chunk.starts, chunk.end)
        for first, end, starts in chunk.exact_writes:
            piece = slice(first - chunk.first, end - chunk.first)
            ops.encode(s.format, self.index, k[:, piece], v[:, piece], exact_pages=self.exact_pages,
                       exact_table=chunk.exact.table, exact_starts=starts,
                       exact_longest=BLOCK_SIZE * (s.exact_columns - 1))
        return out

    def get_mask_sizes(self, query_length):
        return self.n + query_length, 0

    def get_seq_length(self):
        return self.n

    def get_max_length(self):
        return -1 if self.sequences.max_length is None else self.sequences.max_length

    get_max_cache_shape = get_max_length  # its name before transformers 5.17

    def pick(self, pick):
        """Reorders sequences: pick(pages), with pages (columns, B, bytes), is the new order."""
        for name in ("pages", "exact_pages"):
            pages = getattr(self, name)
            if pages is not None and pages.shape[0]:
                pages = pick(pages.view(-1, self.sequences.batch, pages.shape[1]))
                setattr(self, name, pages.flatten(0, 1).contiguous())


class BlockGtqCache(Cache):
    """The keys and values of a model, in packed pages: `past_key_values` of a model with attn_implementation
    "blockgtq". All sequences of a batch have one length.

    map            a map of `blockgtq calibrate`, or a PageFormat, which many caches may share
    sink, recent   positions at the beginning and at the end that stay in fp16; sink is a multiple of 64
    max_length     allocates pages for so many tokens at once; None: pages grow with the text
    prefill_chunk  prompt tokens that are read together: they attend to each other exactly, and to earlier ones as
                   the pages hold them
    config         the model's, to refuse a map of another model at once, not at the first token
    options        of PageFormat: pair, key_method, value_method, code, device, ...

    Raises Error where the map cannot be read, is of another model, or pages cannot hold its codes.
    """

    def __init__(self, map, *, sink=0, recent=0, max_length=None, prefill_chunk=2048, config=None, **options):
        if prefill_chunk < 1:
            raise Error(f"prefill_chunk {prefill_chunk}: expected: 1 or more")
        if max_length is not None and max_length < 1:
            raise Error(f"max_length {max_length}: expected: 1 or more")
        if isinstance(map, PageFormat) and options:
            raise Error(f"{', '.join(options)}: the page format has been opened")
        format = map if isinstance(map, PageFormat) else PageFormat(map, **options)
        fixed = format is map or "device" in options
        open_on = None if fixed else lambda device: PageFormat(map, **options, device=device)
        self.sequences = Sequences(format, open_on, sink, recent, max_length, prefill_chunk)
        super().__init__(layers=[BlockGtqLayer(self.sequences, i) for i in range(format.n_layers)])
        if config is not None:
            check_config(format, config)

    @property
    def format(self):
        return self.sequences.format

    def update(self, key_states, value_states, layer_idx, *args, **kwargs):
        s = self.sequences
        if s.attending is not None:
            raise Error(f"layer {s.attending.index} did not attend to the pages: load the model with "
                        'attn_implementation="blockgtq"; reset() empties the cache')
        if layer_idx >= len(self.layers):
            raise Error(f"layer {layer_idx}, the map has {len(self.layers)}", "input")
        if s.behind == 0:
            s.begin(key_states)
        return self.layers[layer_idx].update(key_states, value_states)

    def reset(self):
        """Empties the cache. Its pages stay."""
        s = self.sequences
        s.n, s.behind, s.chunks, s.attending = 0, 0, [], None
        for layer in self.layers:
            layer.n = 0

    def crop(self, tokens_to_remove):
        """Removes the last tokens: a negative number of them, as transformers has it."""
        s = self.sequences
        if tokens_to_remove > 0 or -tokens_to_remove > s.n:
            raise Error(f"crop({tokens_to_remove}): expected: {-s.n} to 0, minus the tokens to remove")
        if tokens_to_remove == -s.n:
            self.reset()
        elif tokens_to_remove < 0:
            if s.recent:
                raise Error("crop: of what becomes recent again there is no exact form; recent=0 can be cropped")
            self.set_length(s.n + tokens_to_remove)

    def set_length(self, n):
        """Holds n tokens, of those whose pages are written."""
        self.sequences.set_length(n)
        for layer in self.layers:
            layer.n = n

    def reorder_cache(self, beam_idx):
        self._pick(lambda pages: pages.index_select(1, beam_idx.to(pages.device)))

    def batch_repeat_interleave(self, repeats):
        self._pick(lambda pages: pages.repeat_interleave(repeats, dim=1))

    def batch_select_indices(self, indices):
        self._pick(lambda pages: pages[:, indices])

    def _pick(self, pick):
        s = self.sequences
        if s.n == 0:
            return
        for layer in self.layers:
            layer.pick(pick)
        n, columns = s.n, s.columns
        s.resize(self.layers[0].pages.shape[0] // columns)
        s.lay_out(columns)
        s.set_length(n)

    def bytes(self):
        """Bytes of the pages that the tokens fill, of all layers and sequences."""
        s = self.sequences
        packed, exact = s.n, 0
        if s.exact_columns:
            packed = s.format.library.packed_end(s.sink, s.recent, s.n)
            exact = s.format.library.exact_length(s.sink, s.recent, s.n)
        packed_pages = _pages_of(packed) - s.sink // BLOCK_SIZE
        of_a_page = sum(layer.page_bytes for layer in s.format.layers)
        fp16 = _pages_of(exact) * s.format.exact_page_bytes * len(self.layers)
        return s.batch * (max(packed_pages, 0) * of_a_page + fp16)

    def __repr__(self):
        return f"BlockGtqCache({self.format}, {self.sequences.batch} sequences of {self.sequences.n} tokens)"
