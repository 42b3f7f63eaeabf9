"""A diagnosis: what the user sees, why, and the one command that mends it."""

from __future__ import annotations

from dataclasses import dataclass

LOADING = "Couldn't load custom C++ ops / operator torchvision::nms does not exist"


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """`name` is the cause in two words, `symptom` the error's own text, `cause` what in the files shows it,

    `mend` the one command.
    """

    name: str
    symptom: str
    cause: str
    mend: str
