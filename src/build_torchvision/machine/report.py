"""What this computer is: one frozen value, read from sources that a test can replace by a recorded machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from build_torchvision.facts import Gpu, gpus, version_key
from build_torchvision.machine.cpu import Cpu, read_cpu
from build_torchvision.machine.environment import PythonEnvironment
from build_torchvision.machine.nvml import MISMATCH, NO_LIBRARY, NO_MODULE, Nvml, NvmlDevice
from build_torchvision.machine.sources import Sources


@dataclass(frozen=True, kw_only=True)
class GpuFound:
    """A GPU of this machine. `sm` is its row of the facts, None for one they do not know."""

    name: str
    capability: str
    memory_mib: int | None
    mig: tuple[str, ...] = ()
    tegra: bool = False
    """Part of a Tegra system: cubins of other GPUs are not promised to run there, whatever their number."""

    @property
    def sm(self) -> str | None:
        name = "sm" + self.capability.replace(".", "")
        return name if name in gpus() else None


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """A Linux distribution by os-release: `name` is its PRETTY_NAME, `ids` its ID and then those of ID_LIKE."""

    name: str
    ids: tuple[str, ...]
    version: str


@dataclass(frozen=True, kw_only=True)
class Machine:
    """All that choosing a variant asks of a machine."""

    platform: str
    cpu: Cpu
    cpus: int
    """CPUs that this process may run on."""
    cpu_limit: float | None
    """CPUs' worth of time that the control group grants, None for no limit."""
    gpus: tuple[GpuFound, ...]
    driver: str | None
    driver_cuda: str | None
    """The newest CUDA that the driver serves."""
    container: str | None
    wsl: bool
    glibc: str | None
    environment: PythonEnvironment | None
    notes: tuple[str, ...]
    distribution: Distribution | None = None
    """The Linux distribution; None where /etc/os-release does not say."""

    @property
    def gpu(self) -> GpuFound | None:
        """The most capable GPU, the first of equals."""
        return max(self.gpus, key=lambda gpu: version_key(gpu.capability), default=None)


def detect(sources: Sources, environment: PythonEnvironment | None = None) -> Machine:
    """Read `sources`; `environment` is the Python environment that a variant is wanted for. Raises nothing."""
    nvml = sources.nvml()
    soc = _is_tegra(sources)
    found = tuple(_gpu(device, soc) for device in nvml.devices)
    if not found and soc is not None:
        found = (GpuFound(name=soc.products[0], capability=soc.capability, memory_mib=None, tegra=True),)
    container, wsl = _container(sources), "microsoft" in (sources.read("/proc/version") or "").lower()
    cpu = read_cpu(sources)
    driver = nvml.driver or _kernel_driver(sources)
    return Machine(
        platform=sources.platform,
        cpu=cpu,
        cpus=sources.cpus,
        cpu_limit=_cpu_limit(sources),
        gpus=found,
        driver=driver,
        driver_cuda=nvml.cuda,
        container=container,
        wsl=wsl,
        glibc=sources.glibc,
        environment=environment,
        notes=tuple(_notes(sources, nvml, cpu, driver, container, wsl)),
        distribution=_distribution(sources),
    )


def _gpu(device: NvmlDevice, soc: Gpu | None) -> GpuFound:
    return GpuFound(
        name=device.name,
        capability=device.capability,
        memory_mib=device.memory_mib,
        mig=device.mig,
        tegra=soc is not None and device.capability == soc.capability,
    )


def _is_tegra(sources: Sources) -> Gpu | None:
    """The GPU of the Tegra system that the device tree names: there NVML may be missing, or know little."""
    names = (sources.read("/proc/device-tree/compatible") or "").replace("\0", " ").replace(",", " ").split()
    return next((gpu for gpu in gpus().values() if gpu.tegra in names), None)


def _distribution(sources: Sources) -> Distribution | None:
    pairs = (line.partition("=") for line in (sources.read("/etc/os-release") or "").splitlines())
    stated = {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}
    ids = (stated.get("ID", ""), *stated.get("ID_LIKE", "").split())
    if not ids[0]:
        return None
    name = stated.get("PRETTY_NAME") or ids[0]
    return Distribution(name=name, ids=ids, version=stated.get("VERSION_ID", ""))


def _kernel_driver(sources: Sources) -> str | None:
    match = re.search(
        r"Kernel Module(?: for \S+)?\s+(\d+(?:\.\d+)+)", sources.read("/proc/driver/nvidia/version") or ""
    )
    return match[1] if match else None


def _container(sources: Sources) -> str | None:
    if sources.read("/.dockerenv") is not None:
        return "docker"
    if sources.read("/run/.containerenv") is not None:
        return "podman"
    match = re.search(r"kubepods|docker|lxc|libpod|containerd", sources.read("/proc/1/cgroup") or "")
    return {"kubepods": "kubernetes", "libpod": "podman"}.get(match[0], match[0]) if match else None


def _cpu_limit(sources: Sources) -> float | None:
    """CPUs' worth of time granted by control groups: version 2's cpu.max, version 1's quota and period (µs)."""
    own = re.search(r"^0::(\S*)$", sources.read("/proc/self/cgroup") or "", re.MULTILINE)
    paths = [f"/sys/fs/cgroup{own[1].rstrip('/')}/cpu.max"] if own else []
    limits = []
    for path in dict.fromkeys([*paths, "/sys/fs/cgroup/cpu.max"]):
        quota, _, period = (sources.read(path) or "").strip().partition(" ")
        if quota.isdigit() and period.isdigit():
            limits.append(int(quota) / int(period))
    quota = (sources.read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") or "").strip()
    period = (sources.read("/sys/fs/cgroup/cpu/cpu.cfs_period_us") or "").strip()
    if quota.isdigit() and period.isdigit():
        limits.append(int(quota) / int(period))
    return min(limits) if limits else None


def _notes(
    sources: Sources, nvml: Nvml, cpu: Cpu, driver: str | None, container: str | None, wsl: bool
) -> Iterator[str]:
    if nvml.trouble == NO_LIBRARY and driver is not None:
        way = "start the container with --gpus all" if container else "install the driver's libraries too"
        yield f"The kernel has NVIDIA driver {driver}, but its library libnvidia-ml.so.1 is not here: {way}."
    elif nvml.trouble == NO_LIBRARY and wsl:
        yield "No NVIDIA driver reaches this WSL2 machine: install the driver on Windows, not here."
    elif nvml.trouble == NO_MODULE:
        yield "The NVIDIA driver is installed and its kernel module is not loaded: `sudo modprobe nvidia`."
    elif nvml.trouble == MISMATCH:
        yield "The NVIDIA driver was updated while it ran, and its two halves differ: restart the machine."
    elif nvml.trouble and nvml.trouble != NO_LIBRARY:
        yield f"The NVIDIA driver does not answer: {nvml.trouble}."
    if wsl and nvml.driver:
        yield f"WSL2: driver {nvml.driver} is the Windows driver's number, of which only the first part is compared."
    for device in nvml.devices:
        if device.mig:
            yield f"{device.name} is partitioned (MIG: {', '.join(device.mig)}); its parts run the whole GPU's code."
    if cpu.emulated:
        yield f"Programs here run under {cpu.emulated}: build on the real processor for its speed."
    if sources.glibc is None:
        yield "This system has no glibc (musl?): neither PyTorch's wheels nor these run here."


def machine_json(machine: Machine) -> dict[str, Any]:
    """The machine as `detect --json` prints it: the documented, stable shape."""
    environment = machine.environment
    return {
        "machine": {
            "platform": machine.platform,
            "cpu": {
                "model": machine.cpu.model,
                "microarchitecture": machine.cpu.microarchitecture,
                "isa": machine.cpu.isa,
                "emulated": machine.cpu.emulated,
                "cpus": machine.cpus,
                "limit": machine.cpu_limit,
            },
            "gpus": [
                {
                    "name": gpu.name,
                    "capability": gpu.capability,
                    "sm": gpu.sm,
                    "memory_mib": gpu.memory_mib,
                    "mig": list(gpu.mig),
                }
                for gpu in machine.gpus
            ],
            "driver": {"version": machine.driver, "cuda": machine.driver_cuda} if machine.driver else None,
            "container": machine.container,
            "wsl": machine.wsl,
            "glibc": machine.glibc,
        },
        "environment": environment
        and {
            "python": environment.python,
            "executable": str(environment.executable),
            "torch": environment.torch
            and {
                "version": environment.torch.version,
                "cuda": environment.torch.cuda,
                "backend": environment.torch.kind.value,
            },
            "torchvision": environment.torchvision
            and {"version": environment.torchvision.version, "variant": environment.torchvision.variant},
        },
    }
