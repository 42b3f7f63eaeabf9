"""Decompress Zstandard: by Python's own module from 3.14 on, by its backport, or by zstandard where that is there."""

from __future__ import annotations

import importlib
from typing import Any


def decompress(data: bytes, size: int) -> bytes:
    """The `size` bytes that `data` is the compressed form of. Raises ValueError for damaged data or another size."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            module: Any = importlib.import_module(name)
        except ImportError:
            continue
        try:
            found: bytes = module.ZstdDecompressor().decompress(data, size)
        except (module.ZstdError, EOFError) as error:
            raise ValueError(f"damaged Zstandard data: {error}") from error
        break
    else:
        module = importlib.import_module("zstandard")  # what Nix has
        try:
            found = module.decompress(data, max_output_size=size)
        except module.ZstdError as error:
            raise ValueError(f"damaged Zstandard data: {error}") from error
    if len(found) != size:
        raise ValueError(f"damaged Zstandard data: {len(found)} bytes came of it, not {size}")
    return found
