"""Host code of published wheels registers exactly the kernels that their device code has, on both platforms."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from build_torchvision.binary.cuda_registration import registrations
from build_torchvision.binary.fatbin import images, kernels
from build_torchvision.inputs.registry import download

pytestmark = pytest.mark.nightly


@pytest.mark.parametrize(
    ("release", "platform", "count"), [("0.28.0", "x86_64", 48), ("0.29.1", "x86_64", 48), ("0.29.1", "aarch64", 48)]
)
def test_every_kernel_of_a_published_wheel_is_registered(
    release: str, platform: str, count: int, tmp_path: Path
) -> None:
    wheel = download(
        f"torchvision=={release}", tmp_path, platform=platform, python="311", action="Fetch", hint="Check the network."
    )
    registered, present = set[str](), set[str]()
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith("torchvision/") and name.endswith(".so"):
                found = registrations(archive.read(name))
                assert found.unreadable == ()
                registered |= found.names
                present |= {k.name for group in images(archive.read(name)) for image in group for k in kernels(image)}
    assert registered == present
    assert len(registered) == count
