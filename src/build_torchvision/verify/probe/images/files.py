"""read_file and write_file."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from ..harness import Outcome, Probe, Wrong

OPERATORS = ("image::read_file", "image::write_file")


def check(probe: Probe) -> Outcome:
    """5000 bytes, there and back."""
    from torchvision.io import read_file, write_file

    probe.called.update(OPERATORS)
    data = torch.arange(5000).to(torch.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "data"))
        write_file(path, data)
        probe.exact("a file written and read", read_file(path), data)
        if Path(path).read_bytes() != bytes(data.numpy()):
            raise Wrong("write_file wrote other bytes")
    return Outcome(detail="5000 bytes written and read")
