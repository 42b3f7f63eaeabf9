"""Make the pictures of docs/images from a site: python tests/integration/screenshots.py SITE

The site is shown at https://wheels.example/, from its files alone: no name is resolved and nothing leaves the machine.
"""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Route, sync_playwright
from test_page import CHROMIUM, DESKTOP, FLAGS, PHONE

ADDRESS = "https://wheels.example/"
OUT = Path(__file__).parents[2] / "docs" / "images"


def main(site: Path, fragment: str = "#for=cpu-avx512bf16") -> None:
    def answer(route: Route) -> None:
        name = urlsplit(route.request.url).path.lstrip("/") or "index.html"
        route.fulfill(path=site / name)

    OUT.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for width, viewport in (("phone", PHONE), ("desktop", DESKTOP)):
            for scheme in ("light", "dark"):
                page = browser.new_page(viewport=viewport, color_scheme=scheme)  # type: ignore[arg-type]
                page.route("**/*", answer)
                page.goto(ADDRESS + fragment)
                end = page.evaluate("document.querySelector('.scroll').getBoundingClientRect().bottom + scrollY + 32")
                clip = {"x": 0, "y": 0, "width": viewport["width"], "height": end}
                page.screenshot(path=OUT / f"page-{width}-{scheme}.png", full_page=True, clip=clip)  # type: ignore[arg-type]
                page.close()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
