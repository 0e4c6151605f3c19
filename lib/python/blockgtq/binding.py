"""blockgtq.h for ctypes: structures, functions, status codes, in the order and with the names of the header.

Shapes, units and rules stand there. Functions that return a blockgtq_status raise Error instead.
"""

import ctypes
import os
from ctypes import POINTER, Structure, c_char, c_char_p, c_double, c_int32, c_int64, c_uint32, c_void_p
from pathlib import Path

INTERFACE = 1
BLOCK_SIZE = 64
F16, BF16, F32 = 1, 2, 3
TRUST_POINTERS = 1
JUST_ENCODED = 1

STATUS = {1: "defect", 2: "usage", 3: "input", 5: "device", 8: "memory", 9: "pages"}


class Error(RuntimeError):
    """What the library refuses, in one line. kind: one of STATUS' names ("usage", "input", "device", ...)."""

    def __init__(self, text, kind="usage"):
        super().__init__(text)
        self.kind = kind


class SizedStructure(Structure):
    """A structure that begins with its own size."""

    def __init__(self, **fields):
        super().__init__(struct_size=ctypes.sizeof(type(self)), **fields)


class Options(SizedStructure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        ("map", c_char_p),
        ("pair", c_char_p),
        ("key_method", c_char_p),
        ("value_method", c_char_p),
        ("code", c_char_p),
        ("codebook", c_char_p),
        ("device", c_char_p),
        ("longest", c_int64),
        ("n_layers", c_int32),
        ("n_heads", c_int32),
        ("n_kv_heads", c_int32),
        ("head_dim", c_int32),
        ("first_kv_head", c_int32),
        ("kv_heads", c_int32),
        ("page_pitch", c_int64),
    ]


class Description(SizedStructure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("packed", c_int32),
        ("device", c_int32),
        ("n_layers", c_int32),
        ("n_heads", c_int32),
        ("n_kv_heads", c_int32),
        ("head_dim", c_int32),
        ("block_size", c_int32),
        ("keys_rotated", c_int32),
        ("rotary_dim", c_int32),
        ("interleaved", c_int32),
        ("alignment", c_int32),
        ("key_bits", c_double),
        ("value_bits", c_double),
        ("bytes_per_token", c_double),
        ("largest_page_bytes", c_int64),
        ("exact_page_bytes", c_int64),
        ("table_bytes", c_int64),
        ("key_method", c_char * 32),
        ("value_method", c_char * 32),
        ("pair", c_char * 32),
        ("code", c_char * 32),
    ]


class Layer(SizedStructure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("window", c_int32),
        ("page_bytes", c_int64),
        ("page_pitch", c_int64),
        ("scale", c_double),
        ("softcap", c_double),
        ("sinks", c_int32),
        ("reserved", c_int32),
    ]


class Tensor(Structure):
    _fields_ = [
        ("data", c_void_p),
        ("dtype", c_int32),
        ("reserved", c_int32),
        ("stride_sequence", c_int64),
        ("stride_token", c_int64),
        ("stride_head", c_int64),
    ]


class Pages(Structure):
    _fields_ = [
        ("data", c_void_p),
        ("n_pages", c_int64),
        ("block_table", c_void_p),
        ("stride", c_int64),
        ("lengths", c_void_p),
        ("starts", c_void_p),
        ("longest", c_int64),
    ]


class Rule(Structure):
    _fields_ = [
        ("scale", c_double),
        ("softcap", c_double),
        ("window", c_int64),
        ("positions", c_void_p),
        ("sinks", c_void_p),
    ]


class EncodeArgs(SizedStructure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("layer", c_int32),
        ("batch", c_int32),
        ("reserved", c_int32),
        ("tokens", c_int64),
        ("pages", Pages),
        ("exact", Pages),
        ("k", Tensor),
        ("v", Tensor),
        ("scratch", c_void_p),
        ("scratch_bytes", c_int64),
        ("stream", c_void_p),
    ]


class DecodeArgs(SizedStructure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        ("layer", c_int32),
        ("batch", c_int32),
        ("first_page", c_int32),
        ("reserved", c_int32),
        ("pages", Pages),
        ("exact", Pages),
        ("exact_first", c_int64),
        ("q", Tensor),
        ("out", Tensor),
        ("rule", Rule),
        ("scratch", c_void_p),
        ("scratch_bytes", c_int64),
        ("stream", c_void_p),
    ]


class PrefillArgs(SizedStructure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        ("layer", c_int32),
        ("batch", c_int32),
        ("first_page", c_int32),
        ("reserved", c_int32),
        ("tokens", c_int64),
        ("pages", Pages),
        ("exact", Pages),
        ("exact_first", c_int64),
        ("q", Tensor),
        ("k", Tensor),
        ("v", Tensor),
        ("out", Tensor),
        ("rule", Rule),
        ("scratch", c_void_p),
        ("scratch_bytes", c_int64),
        ("stream", c_void_p),
    ]


class SplitArgs(SizedStructure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("batch", c_int32),
        ("sink", c_int64),
        ("recent", c_int64),
        ("held", c_void_p),
        ("exact_pages", c_void_p),
        ("packed_lengths", c_void_p),
        ("exact_lengths", c_void_p),
        ("exact_starts", c_void_p),
        ("exact_table", c_void_p),
        ("stream", c_void_p),
    ]


class ReadArgs(SizedStructure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("layer", c_int32),
        ("batch", c_int32),
        ("exact", c_int32),
        ("first", c_int64),
        ("tokens", c_int64),
        ("pages", Pages),
        ("k", Tensor),
        ("v", Tensor),
        ("stream", c_void_p),
    ]


# Functions that return a status: their arguments.
CALLS = {
    "open": [POINTER(Options), POINTER(c_void_p)],
    "describe": [c_void_p, POINTER(Description)],
    "describe_layer": [c_void_p, c_int32, POINTER(Layer)],
    "frequencies": [c_void_p, c_int32, POINTER(c_double), c_int32],
    "encode": [c_void_p, POINTER(EncodeArgs)],
    "encode_scratch": [c_void_p, POINTER(EncodeArgs), POINTER(c_int64)],
    "decode": [c_void_p, POINTER(DecodeArgs)],
    "decode_scratch": [c_void_p, POINTER(DecodeArgs), POINTER(c_int64)],
    "prefill": [c_void_p, POINTER(PrefillArgs)],
    "prefill_scratch": [c_void_p, POINTER(PrefillArgs), POINTER(c_int64)],
    "split": [c_void_p, POINTER(SplitArgs)],
    "read": [c_void_p, POINTER(ReadArgs)],
}
# The others: their results and arguments.
VALUES = {
    "interface": (c_int32, []),
    "version": (c_char_p, []),
    "last_error": (c_char_p, []),
    "close": (None, [c_void_p]),
    "exact_columns": (c_int64, [c_int64, c_int64]),
    "packed_end": (c_int64, [c_int64, c_int64, c_int64]),
    "exact_length": (c_int64, [c_int64, c_int64, c_int64]),
}


class Library:
    """libblockgtq.so, with blockgtq_NAME as attribute NAME."""

    def __init__(self, path):
        self.path = str(path)
        try:
            library = ctypes.CDLL(self.path)
            interface = library.blockgtq_interface
        except (OSError, AttributeError) as error:
            raise Error(f"{self.path}: not a library of blockgtq that loads: {error}", "input") from None
        if (found := interface()) != INTERFACE:
            text = f"{self.path}: interface {found}, this package has {INTERFACE}"
            raise Error(f"{text}: install the library and the package of one release", "input")
        for name, arguments in CALLS.items():
            call = getattr(library, "blockgtq_" + name)
            call.argtypes, call.restype, call.errcheck = arguments, c_int32, self._check
            setattr(self, name, call)
        for name, (result, arguments) in VALUES.items():
            call = getattr(library, "blockgtq_" + name)
            call.argtypes, call.restype = arguments, result
            setattr(self, name, call)

    def _check(self, status, call, arguments):
        if status:
            raise Error(self.last_error().decode(errors="replace"), STATUS.get(status, f"status {status}"))


_library = None


def library():
    """The library: what BLOCKGTQ_LIBRARY names, else the one in this package's folder, else the system's."""
    global _library
    if _library is None:
        name = f"libblockgtq.so.{INTERFACE}"
        beside = Path(__file__).parent / name
        path = os.environ.get("BLOCKGTQ_LIBRARY") or (beside if beside.exists() else name)
        try:
            _library = Library(path)
        except Error as error:
            if path != name or error.kind != "input" or "cannot open shared object" not in str(error):
                raise
            hint = "BLOCKGTQ_LIBRARY=FILE names it, or install blockgtq's package"
            raise Error(f"{name}: not found: {hint}", "input") from None
    return _library
