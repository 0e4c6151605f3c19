"""Key-value caches in packed pages: PageFormat opens a map of `blockgtq calibrate`, BlockGtqCache serves transformers.

blockgtq.binding is blockgtq.h for ctypes and needs nothing; blockgtq.ops needs torch; BlockGtqCache transformers 5.
"""

from .binding import BLOCK_SIZE, Error, library
from .page_format import PageFormat

__version__ = "0.1.0"
__all__ = ["BLOCK_SIZE", "BlockGtqCache", "DecodeGraph", "Error", "PageFormat", "library"]


def __getattr__(name):
    if name == "BlockGtqCache":
        from .kv_cache import BlockGtqCache  # imports torch and transformers

        return BlockGtqCache
    if name == "DecodeGraph":
        from .decode_graph import DecodeGraph

        return DecodeGraph
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
