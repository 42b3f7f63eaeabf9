"""The pages' templates. Everything that is filled in is escaped."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

_ENVIRONMENT = Environment(
    loader=PackageLoader("build_torchvision.publish", "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def render(template: str, **values: object) -> str:
    """The text of `template` (a file of this folder) with `values`. A value that is missing is an error, not a gap."""
    return _ENVIRONMENT.get_template(template).render(**values)
