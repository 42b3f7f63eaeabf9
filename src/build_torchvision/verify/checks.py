"""A proof: named checks, each of which holds or does not, and what was seen."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from build_torchvision.errors import VerificationFailed


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at. `detail` is what was seen, and where it is wrong, what to do."""

    name: str
    ok: bool
    detail: str

    @classmethod
    def of(cls, name: str, problems: Iterable[str], holds: str) -> Check:
        """Holds exactly when there is no problem; the detail is `holds` then, else the problems."""
        found = list(problems)
        shown = "; ".join(found[:8]) + (f"; and {len(found) - 8} more" if len(found) > 8 else "")
        return cls(name=name, ok=not found, detail=shown if found else holds)


@dataclass(frozen=True, kw_only=True)
class Report:
    """The result of `verify` for one package. It holds when there are checks and every one holds."""

    variant: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        return bool(self.checks) and all(check.ok for check in self.checks)

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if not check.ok)

    def __add__(self, other: Report) -> Report:
        """Both proofs' checks, under this one's name."""
        return Report(variant=self.variant, checks=self.checks + other.checks)

    def to_json(self) -> dict[str, Any]:
        """The documented shape: {"variant", "ok", "checks": [{"name", "ok", "detail"}]}."""
        checks = [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in self.checks]
        return {"variant": self.variant, "ok": self.ok, "checks": checks}

    def dumps(self) -> str:
        """`to_json` as text, the same for the same checks."""
        return json.dumps(self.to_json(), indent=1) + "\n"

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Report:
        """The inverse of `to_json`; "ok" is computed anew."""
        return cls(variant=data["variant"], checks=tuple(Check(**check) for check in data["checks"]))

    def require(self, hint: str) -> None:
        """Raises VerificationFailed, naming every check that does not hold; `hint` completes the error."""
        if not self.ok:
            reasons = " ".join(f"{check.name}: {check.detail}" for check in self.failed) or "nothing was checked"
            raise VerificationFailed(f"Prove {self.variant}", reasons, hint)
