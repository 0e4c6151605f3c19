"""How keys and values of a model lie in pages: what blockgtq_open() makes of a map, for one device."""

import ctypes
import os
import weakref

from .binding import TRUST_POINTERS, Description, Error, Layer, Options, library

_formats = weakref.WeakValueDictionary()
_next = iter(range(1, 1 << 62))


class PageFormat:
    """A map of `blockgtq calibrate`, opened for a device. Caches and threads may share it.

    map           the file; None: pages of fp16, and then `model` must be given
    pair          bits of keys and values, "K3V3"; None: the map's first budget for both
    key_method, value_method, code, codebook
                  as in `blockgtq generate --kv`; code is "scalar" or "trellis"
    device        "cpu", "cuda" or "cuda:N"
    longest       positions of the longest sequence
    model         (n_layers, n_heads, n_kv_heads, head_dim) that the map must be of
    first_kv_head, kv_heads, page_pitch
                  as in blockgtq_options: a part of the heads, larger pages

    Raises Error. Attributes: those of blockgtq_description (n_layers, n_heads, n_kv_heads, head_dim, ...);
    `layers`, the blockgtq_layer of each layer; `id`, by which torch's operators name it.
    """

    def __init__(self, map, *, pair=None, key_method=None, value_method=None, code=None, codebook=None,
                 device="cpu", longest=131072, model=(0, 0, 0, 0), first_kv_head=0, kv_heads=0, page_pitch=0):
        self.map = None if map is None else os.fspath(map)
        self.pointer = None
        text = lambda x: None if x is None else os.fsencode(x)
        options = Options(flags=TRUST_POINTERS, map=text(self.map), pair=text(pair), key_method=text(key_method),
                          value_method=text(value_method), code=text(code), codebook=text(codebook),
                          device=text(device), longest=longest, first_kv_head=first_kv_head, kv_heads=kv_heads,
                          page_pitch=page_pitch)
        options.n_layers, options.n_heads, options.n_kv_heads, options.head_dim = model
        self.library = library()
        pointer = ctypes.c_void_p()
        self.library.open(options, ctypes.byref(pointer))
        self.pointer, self.longest, self.id = pointer.value, longest, next(_next)
        weakref.finalize(self, self.library.close, self.pointer)
        description = Description()
        self.library.describe(self.pointer, description)
        for name, _ in Description._fields_[1:]:
            value = getattr(description, name)
            setattr(self, name, value.decode() if isinstance(value, bytes) else value)
        self.layers = [self._layer(i) for i in range(self.n_layers)]
        _formats[self.id] = self

    def _layer(self, index):
        layer = Layer()
        self.library.describe_layer(self.pointer, index, layer)
        return layer

    def frequencies(self, layer):
        """Radians per position of the rotary_dim / 2 blocks that RoPE rotates in this layer."""
        out = (ctypes.c_double * (self.rotary_dim // 2))()
        self.library.frequencies(self.pointer, layer, out, len(out))
        return list(out)

    def __repr__(self):
        device = "cpu" if self.device < 0 else f"cuda:{self.device}"
        return (f"PageFormat({self.map}: {self.pair}, {self.key_method} / {self.value_method}, {self.code}, "
                f"{self.bytes_per_token:.0f} bytes per token, {device})")


def page_format(id):
    """The PageFormat with this id. Raises Error where it is gone."""
    try:
        return _formats[id]
    except KeyError:
        raise Error(f"no page format with the id {id}: it must be kept as long as its pages are used") from None
