"""Draw what five commands print in a terminal, from their real output, into docs/images.

    python tests/integration/terminal_pictures.py WHEEL

WHEEL is a wheel that `build` made; its audit is drawn.
"""

from __future__ import annotations

import re
import sys
import tempfile
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/unit"))
from _terminal import in_terminal  # noqa: E402  # what the tests of terminal output look at

IMAGES = ROOT / "docs" / "images"
COLUMNS = 100
SHOW = "torchvision-python313-cuda12_8-sm121-armv9"


def commands(wheel: Path, site: Path) -> dict[str, tuple[str, list[str]]]:
    """Picture -> (the command as its title shows it, the words that are run)."""
    return {
        "detect": ("detect", ["detect"]),
        "variants": ("variants 'cuda12_8-sm{90,120}-*'", ["variants", "cuda12_8-sm{90,120}-*"]),
        "show": (f"show {SHOW}", ["show", SHOW]),
        "verify": ("verify dist/*.whl --static", ["verify", str(wheel), "--static", "--quiet"]),
        "index": ("index dist --out site", ["index", str(wheel), "--out", str(site), "--quiet"]),
    }


def draw(name: str, title: str, text: str) -> Path:
    """Write what a terminal shows as an SVG that loads no font from anywhere."""
    console = Console(width=COLUMNS, record=True, file=StringIO())
    console.print(Text.from_ansi(text.rstrip()), soft_wrap=True)
    svg = console.export_svg(title=f"build-torchvision {title}")
    svg = re.sub(r"@font-face \{.*?\}\s*|\s*<!-- Generated with Rich .*? -->", "", svg, flags=re.DOTALL)
    path = IMAGES / f"terminal-{name}.svg"
    path.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n", encoding="utf-8")
    return path


def main(wheel: Path) -> None:
    """Run the commands and draw them."""
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        for name, (title, words) in commands(wheel, site).items():
            text = in_terminal(words, COLUMNS).replace(str(site), "site")
            print(draw(name, title, text))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
