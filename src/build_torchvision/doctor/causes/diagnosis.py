"""A diagnosis: what the user sees, why, and the one command that mends it."""

from __future__ import annotations

from dataclasses import dataclass

LOADING = "Couldn't load custom C++ ops / operator torchvision::nms does not exist"


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """One thing that is wrong: `name` in two words, `symptom` the error's own text, `cause` what the files show."""

    name: str
    symptom: str
    cause: str
    fix: str
    """One shell command."""
