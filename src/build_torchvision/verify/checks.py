"""The report of a verification: named checks, each of which holds or does not, and what was seen."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from build_torchvision.errors import VerificationFailed

Part = Literal["static", "cpu", "gpu", "upstream"]
"""Which part of a verification a check is: reading the files, running operators, or upstream's own tests."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at. `detail` is what was seen, and where it is wrong, what to do.

    `judged` is False for a check that could not be made, because nothing is known to compare with: it does not fail,
    and it is no evidence either.
    """

    name: str
    ok: bool
    detail: str
    part: Part = "static"
    judged: bool = True

    @classmethod
    def of(cls, name: str, problems: Iterable[str], holds: str, *, part: Part = "static") -> Check:
        """Holds exactly when there is no problem; the detail is `holds` then, else the problems."""
        listed = list(problems)
        shown = "; ".join(listed[:8]) + (f"; and {len(listed) - 8} more" if len(listed) > 8 else "")
        return cls(name=name, ok=not listed, detail=shown if listed else holds, part=part)

    @classmethod
    def not_judged(cls, name: str, why: str, *, part: Part = "static") -> Check:
        """A check that could not be made; `why` says what is not known."""
        return cls(name=name, ok=True, detail=f"not judged: {why}", part=part, judged=False)


@dataclass(frozen=True, kw_only=True)
class Report:
    """The result of `verify` for one package. It holds when something was judged and every check holds."""

    variant: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        return any(check.judged for check in self.checks) and all(check.ok for check in self.checks)

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if not check.ok)

    @property
    def not_judged(self) -> tuple[Check, ...]:
        """The checks that could not be made."""
        return tuple(check for check in self.checks if not check.judged)

    def of_part(self, part: Part) -> tuple[Check, ...]:
        """The checks of one part of the verification."""
        return tuple(check for check in self.checks if check.part == part)

    def __add__(self, other: Report) -> Report:
        """Both reports' checks, under this one's name."""
        return Report(variant=self.variant, checks=self.checks + other.checks)

    def to_json(self) -> dict[str, Any]:
        """The documented shape: {"variant", "ok", "checks": [{"name", "ok", "detail", "part", "judged"}]}."""
        checks = [asdict(check) for check in self.checks]
        return {"variant": self.variant, "ok": self.ok, "checks": checks}

    def dumps(self) -> str:
        """`to_json` as text, the same for the same checks."""
        return json.dumps(self.to_json(), indent=1) + "\n"

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Report:
        """The inverse of `to_json`; "ok" is computed anew. Raises KeyError or TypeError for another shape."""
        checks = tuple(Check(**check) for check in data["checks"])
        for check in checks:
            if not (isinstance(check.name, str) and isinstance(check.detail, str)):
                raise TypeError("a check whose name or detail is no text")
            if not (isinstance(check.ok, bool) and isinstance(check.judged, bool) and check.part in get_args(Part)):
                raise TypeError(f"a check {check.name!r} whose outcome cannot be read")
        return cls(variant=str(data["variant"]), checks=checks)

    def require(self, hint: str) -> None:
        """Raises VerificationFailed, naming every check that does not hold; `hint` completes the error."""
        if not self.ok:
            reasons = " ".join(f"{check.name}: {check.detail}" for check in self.failed) or "nothing was checked"
            raise VerificationFailed(f"Verify {self.variant}", reasons, hint)
