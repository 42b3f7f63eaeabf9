"""The examples that `--help` shows, by command."""

from __future__ import annotations

from collections.abc import Iterable

NAME = "build-torchvision"
EXAMPLES = {
    "variants": ("variants 'cpu-*'", "variants 'cuda12_8-sm{89,90}-avx*'", "variants --track cuda13_0 --matrix"),
    "show": ("show torchvision-python313-cuda12_8-sm121-armv9",),
    "detect": ("detect", "detect --python .venv --json"),
    "plan": ("plan torchvision-python313-cpu-avx512", "plan 'cuda13_0-*-armv9' --torchvision 0.28.0"),
    "prepare": ("prepare cpu-armv8_2 cpu-armv9",),
    "build": (
        "build --auto --verify",
        "build cpu-avx512",
        "build 'cuda12_8-sm{89,90}-avx*' --launcher ccache",
        "build 'cpu-avx*' --torchvision 0.28.0 --python 312,313",
    ),
    "verify": (
        "verify dist/*.whl --static",
        "verify dist/*.whl",
        "verify dist/*.whl --device --python .venv",
        "verify dist/*armv9*.whl --emulate",
    ),
    "bench": ("bench dist/*.whl --out bench", "bench dist/*.whl --only nms,roi_align --threads 1"),
    "index": ("index dist --out site", "index new/*.whl --out site --add", "index dist --out site --sign key.pem"),
    "install": (
        "install --from site --python .venv",
        "install --from https://your.host/ --dry-run",
        "install 'cpu-*' --from site --trust key.pub",
    ),
    "doctor": ("doctor", "doctor --python .venv"),
    "recipes": ("recipes --check", "recipes --track cuda13_0 --out ../checkout"),
    "cache": ("cache", "cache prune --days 7", "cache prune torch --days 0"),
}
"""Command -> its examples, without the name of the tool."""


def listed(examples: Iterable[str]) -> str:
    """`examples` as the last paragraph of a help text."""
    return "Examples:\n\n" + "\n".join(f"    {NAME} {example}" for example in examples)
