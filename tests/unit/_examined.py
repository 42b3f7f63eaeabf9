"""An environment as `doctor` sees it on a recorded machine, and pairs of torch and TorchVision to look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from _environments import Site
from _machines import record, sources

from build_torchvision.doctor.causes.diagnosis import Diagnosis
from build_torchvision.doctor.diagnose import diagnose, notes
from build_torchvision.doctor.installation import InstallationState, inspect_installation
from build_torchvision.machine.environment import PythonEnvironment, read_environment
from build_torchvision.machine.report import Machine, detect


class Examined:
    """What doctor finds in an environment on a recorded machine."""

    def __init__(
        self,
        python: Path,
        machine: str = "haswell",
        *,
        variables: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        **changes: object,
    ) -> None:
        self.environment: PythonEnvironment = read_environment(python, variables or {})
        found = detect(sources(record(machine)), self.environment)
        self.machine: Machine = replace(found, **changes)  # type: ignore[arg-type]  # any field of it
        self.state: InstallationState = inspect_installation(self.environment, cwd or python / "bin", variables or {})
        self.found: list[Diagnosis] = list(diagnose(self.state, self.machine))
        self.notes = " ".join(notes(self.state, self.machine))

    @property
    def names(self) -> list[str]:
        return [one.name for one in self.found]

    @property
    def one(self) -> Diagnosis:
        assert len(self.found) == 1, [(one.name, one.cause) for one in self.found]
        return self.found[0]

    @property
    def fix(self) -> str:
        assert self.one.fix is not None, self.one.remedy.note
        return self.one.fix

    @property
    def healthy(self) -> bool:
        assert not self.found, [(one.name, one.cause) for one in self.found]
        return True


def no_gpu_code(torch: str, cuda: str, *images: str) -> Site:
    return Site().with_torch_cuda(torch, cuda, *images)


def cuda_pair(torch: str, cuda: str, torchvision: str, *images: str) -> Site:
    """A stock pair of CUDA `cuda`."""
    site = Site(torchvision=torchvision, requirement=f"torch=={torch.partition('+')[0]}")
    site.with_cuda(torch, cuda, *images)
    major = cuda.partition(".")[0]
    site.main = replace(site.main, needed=[name.replace("so.12", f"so.{major}") for name in site.main.needed])
    site.torch_libraries[f"libcudart.so.{major}"] = site.torch_libraries.pop("libcudart.so.12")
    return site
