"""A diagnosis: what the user sees, why, and the one command that mends it."""

from __future__ import annotations

from dataclasses import dataclass

from build_torchvision.doctor.fixes import Remedy

LOADING = "Couldn't load custom C++ ops / operator torchvision::nms does not exist"
PARTIAL = "partially initialized module 'torchvision' has no attribute 'extension'"
"""What importing it a second time, or in a notebook, shows of the same fault."""
NO_CUDA_KERNEL = "Could not run 'torchvision::nms' with arguments from the 'CUDA' backend"


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """One thing that is wrong: `name` in two words, `symptom` the error's own text, `cause` what the files show."""

    name: str
    symptom: str
    cause: str
    remedy: Remedy

    @property
    def fix(self) -> str | None:
        """One shell command; None where no command helps."""
        return str(self.remedy.command) if self.remedy.command is not None else None
