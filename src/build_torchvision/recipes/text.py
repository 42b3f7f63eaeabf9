"""Text templates: `templates/NAME.j2`, where an undefined name is an error and a block leaves no blank line."""

from __future__ import annotations

from functools import cache

import jinja2


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader(__package__ or "build_torchvision.recipes"),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # Markdown, Nix and YAML, never HTML
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render(template: str, **values: object) -> str:
    """The text of `templates/TEMPLATE.j2` with `values` in their places."""
    return _environment().get_template(f"{template}.j2").render(**values)
