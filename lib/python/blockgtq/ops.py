"""The calls of blockgtq.h on torch tensors, and the same as operators: torch.ops.blockgtq.NAME.

Functions here check their tensors, allocate scratch and results, and launch on the current stream of the format's
device. The operators have the same arguments, but a PageFormat's `id` in place of the format. torch.compile and
CUDA graphs take both. A wrong tensor is an Error, before anything is launched.

Letters in shapes: B sequences, T new tokens of each, Hq query heads, H KV heads, D head dimension.

pages         (n_pages, page_pitch) uint8, of one layer
block_table   (B, columns) int32: position t of sequence b lies in page block_table[b, t // 64]
starts        (B) int32, the position of the first new token
lengths       (B) int32, positions that are read
longest       no length, and no start + T, is larger
exact_*       the same of fp16 pages beside packed ones (PageFormat.exact_page_bytes each); None: there are none
exact_first   how many exact positions are the sequence's first ones
scale, softcap, window, sinks
              blockgtq_rule; zeros and None: as the map says of the layer
"""

import inspect
from ctypes import byref, c_int64
from typing import Optional

import torch

from .binding import BF16, BLOCK_SIZE, F16, F32, JUST_ENCODED
from .binding import DecodeArgs, EncodeArgs, Error, PrefillArgs, ReadArgs, SplitArgs
from .page_format import PageFormat, page_format

Tensor = torch.Tensor
DTYPES = {torch.float16: F16, torch.bfloat16: BF16, torch.float32: F32}


def device_of(format):
    return torch.device("cpu") if format.device < 0 else torch.device("cuda", format.device)


def _check(name, x, format, dtype, shape):
    """Refuses x where it is not contiguous, of this type and shape, on the format's device."""
    if x.dtype != dtype:
        raise Error(f"{name}: {x.dtype}, expected: {dtype}")
    if x.shape != shape:
        raise Error(f"{name}: shape {tuple(x.shape)}, expected: {shape}")
    if x.device != device_of(format):
        raise Error(f"{name}: on {x.device}, expected: {device_of(format)}", "device")
    if not x.is_contiguous():
        raise Error(f"{name}: not contiguous: strides {x.stride()} of shape {tuple(x.shape)}")


def _set_tensor(field, name, x, format, batch, tokens, heads):
    """x (batch, tokens, heads, D), of any strides but that of D."""
    shape = (batch, tokens, heads, format.head_dim)
    if x.shape != shape:
        raise Error(f"{name}: shape {tuple(x.shape)}, expected: {shape}")
    if (dtype := DTYPES.get(x.dtype)) is None:
        raise Error(f"{name}: {x.dtype}, expected: float16, bfloat16 or float32")
    if x.device != device_of(format):
        raise Error(f"{name}: on {x.device}, expected: {device_of(format)}", "device")
    field.data, field.dtype = x.data_ptr(), dtype
    if not x.is_contiguous():
        strides = x.stride()
        if strides[3] != 1 or not any(strides[:3]):
            raise Error(f"{name}: strides {strides}, expected: 1 in the last dimension, not 0 in all others")
        field.stride_sequence, field.stride_token, field.stride_head = strides[:3]


def _set_pages(field, name, pages, table, format, pitch, batch, longest):
    if pages.ndim != 2 or table is None or table.ndim != 2:
        raise Error(f"{name}: pages (n_pages, {pitch}) and a block table (B, columns) are expected")
    _check(f"{name}: pages", pages, format, torch.uint8, (pages.shape[0], pitch))
    _check(f"{name}: block table", table, format, torch.int32, (batch, table.shape[1]))
    field.data, field.n_pages = pages.data_ptr(), pages.shape[0]
    field.block_table, field.stride, field.longest = table.data_ptr(), table.shape[1], longest


def _index(name, x, format, batch):
    if x is None:
        raise Error(f"{name}: missing")
    _check(name, x, format, torch.int32, (batch,))
    return x.data_ptr()


def _layer(format, layer):
    if not 0 <= layer < format.n_layers:
        raise Error(f"layer {layer}, the map has {format.n_layers}")
    return format.layers[layer]


def _set_rule(rule, format, scale, softcap, window, sinks):
    rule.scale, rule.softcap, rule.window = scale, softcap, window
    if sinks is not None:
        _check("sinks", sinks, format, torch.float32, (format.n_heads,))
        rule.sinks = sinks.data_ptr()


def _set_stream(args, format):
    if format.device >= 0:
        args.stream = torch.cuda.current_stream(device_of(format)).cuda_stream


def _launch(format, args, call, size):
    """Calls with scratch memory and the current stream. torch orders reuse of the scratch by stream."""
    if format.device >= 0:
        n_bytes = c_int64()
        size(format.pointer, args, byref(n_bytes))
        if n_bytes.value:
            scratch = torch.empty(n_bytes.value, dtype=torch.uint8, device=device_of(format))
            args.scratch, args.scratch_bytes = scratch.data_ptr(), n_bytes.value
    _set_stream(args, format)
    call(format.pointer, args)


def encode(format: PageFormat, layer: int, k: Tensor, v: Tensor, pages: Optional[Tensor] = None,
           block_table: Optional[Tensor] = None, starts: Optional[Tensor] = None, longest: int = 0,
           exact_pages: Optional[Tensor] = None, exact_table: Optional[Tensor] = None,
           exact_starts: Optional[Tensor] = None, exact_longest: int = 0) -> None:
    """Writes T new tokens of each sequence into its pages. k after RoPE, v: (B, T, H, D)."""
    args = EncodeArgs(layer=layer)
    batch, tokens = k.shape[:2]
    args.batch, args.tokens = batch, tokens
    pitch = _layer(format, layer).page_pitch
    if pages is not None:
        _set_pages(args.pages, "encode", pages, block_table, format, pitch, batch, longest)
        args.pages.starts = _index("starts", starts, format, batch)
    if exact_pages is not None:
        _set_pages(args.exact, "encode: exact", exact_pages, exact_table, format, format.exact_page_bytes, batch,
                   exact_longest)
        args.exact.starts = _index("exact starts", exact_starts, format, batch)
    _set_tensor(args.k, "k", k, format, batch, tokens, format.n_kv_heads)
    _set_tensor(args.v, "v", v, format, batch, tokens, format.n_kv_heads)
    _launch(format, args, format.library.encode, format.library.encode_scratch)


def _set_read(args, name, format, layer, batch, pages, block_table, lengths, longest, exact_pages, exact_table,
              exact_lengths, exact_longest, exact_first, first_page):
    """What decode and prefill read."""
    args.layer, args.batch, args.first_page = layer, batch, first_page
    if pages is not None:
        pitch = _layer(format, layer).page_pitch
        _set_pages(args.pages, name, pages, block_table, format, pitch, batch, longest)
        args.pages.lengths = _index("lengths", lengths, format, batch)
    if exact_pages is not None:
        _set_pages(args.exact, f"{name}: exact", exact_pages, exact_table, format, format.exact_page_bytes, batch,
                   exact_longest)
        args.exact.lengths = _index("exact lengths", exact_lengths, format, batch)
        args.exact_first = exact_first


def _decode(flags, format, layer, q, pages, block_table, lengths, longest, exact_pages, exact_table, exact_lengths,
            exact_longest, exact_first, first_page, scale, softcap, window, positions, sinks):
    args = DecodeArgs(flags=flags)
    batch = q.shape[0]
    _set_read(args, "decode", format, layer, batch, pages, block_table, lengths, longest, exact_pages, exact_table,
              exact_lengths, exact_longest, exact_first, first_page)
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    _set_tensor(args.q, "q", q, format, batch, 1, format.n_heads)
    _set_tensor(args.out, "out", out, format, batch, 1, format.n_heads)
    _set_rule(args.rule, format, scale, softcap, window, sinks)
    if positions is not None:
        args.rule.positions = _index("positions", positions, format, batch)
    _launch(format, args, format.library.decode, format.library.decode_scratch)
    return out


def decode(format: PageFormat, layer: int, q: Tensor, pages: Tensor, block_table: Tensor, lengths: Tensor,
           longest: int, exact_pages: Optional[Tensor] = None, exact_table: Optional[Tensor] = None,
           exact_lengths: Optional[Tensor] = None, exact_longest: int = 0, exact_first: int = 0, first_page: int = 0,
           scale: float = 0.0, softcap: float = 0.0, window: int = 0, positions: Optional[Tensor] = None,
           sinks: Optional[Tensor] = None) -> Tensor:
    """Attention of one new token per sequence over its pages, which hold the token. q, result (B, 1, Hq, D)."""
    return _decode(0, format, layer, q, pages, block_table, lengths, longest, exact_pages, exact_table,
                   exact_lengths, exact_longest, exact_first, first_page, scale, softcap, window, positions, sinks)


def step(format: PageFormat, layer: int, q: Tensor, k: Tensor, v: Tensor, pages: Tensor, block_table: Tensor,
         starts: Tensor, lengths: Tensor, longest: int, exact_pages: Optional[Tensor] = None,
         exact_table: Optional[Tensor] = None, exact_starts: Optional[Tensor] = None,
         exact_lengths: Optional[Tensor] = None, exact_longest: int = 0, exact_first: int = 0, first_page: int = 0,
         scale: float = 0.0, softcap: float = 0.0, window: int = 0, sinks: Optional[Tensor] = None) -> Tensor:
    """encode() of one token per sequence, then decode(): attention may begin while the encoder still runs.

    starts are the token's positions.
    """
    exact_places = 0 if exact_table is None else BLOCK_SIZE * exact_table.shape[1]  # with the spare page
    encode(format, layer, k, v, pages, block_table, starts, longest, exact_pages, exact_table, exact_starts,
           exact_places)
    return _decode(JUST_ENCODED, format, layer, q, pages, block_table, lengths, longest, exact_pages, exact_table,
                   exact_lengths, exact_longest, exact_first, first_page, scale, softcap, window, starts, sinks)


def prefill(format: PageFormat, layer: int, q: Tensor, k: Tensor, v: Tensor, pages: Optional[Tensor] = None,
            block_table: Optional[Tensor] = None, lengths: Optional[Tensor] = None, longest: int = 0,
            exact_pages: Optional[Tensor] = None, exact_table: Optional[Tensor] = None,
            exact_lengths: Optional[Tensor] = None, exact_longest: int = 0, exact_first: int = 0,
            first_page: int = 0, scale: float = 0.0, softcap: float = 0.0, window: int = 0,
            sinks: Optional[Tensor] = None) -> Tensor:
    """Attention of a chunk behind what pages hold, and exactly over itself; encode() follows.

    q, result (B, T, Hq, D); k, v (B, T, H, D). Without pages the chunk is the sequence's first one.
    """
    args = PrefillArgs()
    batch, tokens = q.shape[:2]
    args.tokens = tokens
    _set_read(args, "prefill", format, layer, batch, pages, block_table, lengths, longest, exact_pages, exact_table,
              exact_lengths, exact_longest, exact_first, first_page)
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    _set_tensor(args.q, "q", q, format, batch, tokens, format.n_heads)
    _set_tensor(args.k, "k", k, format, batch, tokens, format.n_kv_heads)
    _set_tensor(args.v, "v", v, format, batch, tokens, format.n_kv_heads)
    _set_tensor(args.out, "out", out, format, batch, tokens, format.n_heads)
    _set_rule(args.rule, format, scale, softcap, window, sinks)
    _launch(format, args, format.library.prefill, format.library.prefill_scratch)
    return out


def split(format: PageFormat, held: Tensor, exact_pages: Tensor, sink: int, recent: int, packed_lengths: Tensor,
          exact_lengths: Tensor, exact_starts: Tensor, exact_table: Tensor) -> None:
    """What lies where in sequences with exact positions, before the token at position held[b] (B). Writes
    packed_lengths, exact_lengths, exact_starts (B) and exact_table, which has exact_pages' shape: (B, columns)."""
    batch = held.shape[0]
    columns = format.library.exact_columns(sink, recent)
    args = SplitArgs(batch=batch, sink=sink, recent=recent)
    args.held = _index("held", held, format, batch)
    args.packed_lengths = _index("packed lengths", packed_lengths, format, batch)
    args.exact_lengths = _index("exact lengths", exact_lengths, format, batch)
    args.exact_starts = _index("exact starts", exact_starts, format, batch)
    _check("exact pages", exact_pages, format, torch.int32, (batch, columns))
    _check("exact table", exact_table, format, torch.int32, (batch, columns))
    args.exact_pages, args.exact_table = exact_pages.data_ptr(), exact_table.data_ptr()
    _set_stream(args, format)
    format.library.split(format.pointer, args)


def read(format, layer, pages, block_table, first, tokens, exact=False):
    """Keys after RoPE and values at positions [first, first + tokens), as the pages hold them: two tensors (B,
    tokens, H, D) float32. For tests: on a GPU it waits."""
    batch = block_table.shape[0]
    args = ReadArgs(layer=layer, batch=batch, exact=int(exact), first=first, tokens=tokens)
    pitch = format.exact_page_bytes if exact else _layer(format, layer).page_pitch
    _set_pages(args.pages, "read", pages, block_table, format, pitch, batch, first + tokens)
    shape = (batch, tokens, format.n_kv_heads, format.head_dim)
    k, v = (torch.empty(shape, dtype=torch.float32, device=pages.device) for _ in range(2))
    _set_tensor(args.k, "k", k, format, *shape[:3])
    _set_tensor(args.v, "v", v, format, *shape[:3])
    _set_stream(args, format)
    format.library.read(format.pointer, args)
    return k, v


def _like_q(format, layer, q, *rest, **more):
    return torch.empty(q.shape, dtype=q.dtype, device=q.device)


def _nothing(*rest, **more):
    return None


# torch.library.custom_op() makes the same operators, but takes 27 to 40 us of the processor per call where one
# made here takes 11: measured with torch 2.11, on ten arguments of which one is written.
_library = torch.library.Library("blockgtq", "DEF")


def _register(function, writes, fake):
    def operator(format, *rest, **more):
        return function(page_format(format), *rest, **more)

    signature = inspect.signature(function)
    first, *others = signature.parameters.values()
    operator.__signature__ = signature.replace(parameters=[first.replace(annotation=int), *others])
    _library.define(function.__name__ + torch.library.infer_schema(operator, mutates_args=writes))
    for device in ("CPU", "CUDA"):
        _library.impl(function.__name__, operator, device)
    torch.library.register_fake("blockgtq::" + function.__name__, fake, lib=_library)


_register(encode, ("pages", "exact_pages"), _nothing)
_register(decode, (), _like_q)
_register(step, ("pages", "exact_pages"), _like_q)
_register(prefill, (), _like_q)
_register(split, ("packed_lengths", "exact_lengths", "exact_starts", "exact_table"), _nothing)
