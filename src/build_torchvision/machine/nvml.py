"""NVIDIA's management library, asked what GPUs and driver there are. No driver is an answer, not an error."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Under WSL2 the library lies where the loader of a container may not look; once loaded, its name finds it.
WSL_LIBRARY = Path("/usr/lib/wsl/lib/libnvidia-ml.so.1")
NO_LIBRARY, NO_MODULE, MISMATCH = "no library", "kernel module not loaded", "library and kernel module differ"


@dataclass(frozen=True, kw_only=True)
class NvmlDevice:
    """One GPU. `capability` is "8.9", `memory_mib` None where CPU and GPU share memory, `mig` its instances' names."""

    name: str
    capability: str
    memory_mib: int | None = None
    mig: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Nvml:
    """What the library says. `cuda` is the newest CUDA that the driver serves ("12.8"); `trouble` why nothing is known.

    `trouble` is None, NO_LIBRARY (no driver is installed, or a container was not given it), NO_MODULE, MISMATCH or
    the library's own words.
    """

    driver: str | None = None
    cuda: str | None = None
    devices: tuple[NvmlDevice, ...] = ()
    trouble: str | None = None

    @classmethod
    def from_record(cls, data: Mapping[str, Any]) -> Nvml:
        """From the keys above, as JSON or TOML hold them."""
        devices = tuple(NvmlDevice(**{**row, "mig": tuple(row.get("mig", ()))}) for row in data.get("devices", ()))
        return cls(driver=data.get("driver"), cuda=data.get("cuda"), devices=devices, trouble=data.get("trouble"))


def _loads() -> bool:
    """Whether the library can be loaded. Without it the large module of its bindings is not imported."""
    for name in (str(WSL_LIBRARY), "libnvidia-ml.so.1"):
        with suppress(OSError):
            ctypes.CDLL(name)
            return True
    return False


@contextmanager
def _session() -> Iterator[None]:
    import pynvml

    pynvml.nvmlInit()
    try:
        yield
    finally:
        pynvml.nvmlShutdown()


def read_nvml() -> Nvml:
    """Ask this machine's library. Takes milliseconds, raises nothing."""
    if not _loads():
        return Nvml(trouble=NO_LIBRARY)
    import pynvml

    try:
        with _session():
            count = pynvml.nvmlDeviceGetCount()
            version = int(pynvml.nvmlSystemGetCudaDriverVersion())
            return Nvml(
                driver=_text(pynvml.nvmlSystemGetDriverVersion()),
                cuda=f"{version // 1000}.{version % 1000 // 10}",
                devices=tuple(_device(pynvml.nvmlDeviceGetHandleByIndex(index)) for index in range(count)),
            )
    except pynvml.NVMLError_LibraryNotFound:
        return Nvml(trouble=NO_LIBRARY)
    except pynvml.NVMLError_DriverNotLoaded:
        return Nvml(trouble=NO_MODULE)
    except pynvml.NVMLError_LibRmVersionMismatch:
        return Nvml(trouble=MISMATCH)
    except pynvml.NVMLError as error:
        return Nvml(trouble=str(error))


def _device(handle: Any) -> NvmlDevice:
    import pynvml

    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    memory: int | None = None
    with suppress(pynvml.NVMLError):  # not supported where CPU and GPU share their memory
        memory = int(pynvml.nvmlDeviceGetMemoryInfo(handle).total) // 2**20
    return NvmlDevice(
        name=_text(pynvml.nvmlDeviceGetName(handle)),
        capability=f"{major}.{minor}",
        memory_mib=memory,
        mig=tuple(_mig(handle)),
    )


def _mig(handle: Any) -> Iterator[str]:
    import pynvml

    with suppress(pynvml.NVMLError):  # not supported: no MIG here
        current, _ = pynvml.nvmlDeviceGetMigMode(handle)
        if current != pynvml.NVML_DEVICE_MIG_ENABLE:
            return
        for index in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
            with suppress(pynvml.NVMLError_NotFound):
                yield _text(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)))


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
