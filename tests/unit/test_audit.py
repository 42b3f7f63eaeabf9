"""The proof catches planted faults. The wheels here are made from bytes: no compiler, no network, no torch."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from _elf import Object
from _wheels import record_of
from iced_x86 import CpuidFeature

from build_torchvision.binary.elf import NotElf, Section, defined_symbols, read_elf
from build_torchvision.binary.instructions import allowed_features, beyond, scan
from build_torchvision.binary.instructions.x86_64 import V1, V2
from build_torchvision.errors import BadInput, MissingInput, VerificationFailed
from build_torchvision.facts import isas, releases
from build_torchvision.facts.operators import operators_of
from build_torchvision.spec import (
    CodecIdentity,
    SourceIdentity,
    TorchIdentity,
    WheelSpec,
    local_version,
    variant_label,
)
from build_torchvision.variants import Variant, every_variant, parse
from build_torchvision.verify import environments, operators
from build_torchvision.verify.checks import Check, Report
from build_torchvision.verify.package import parse_file_name
from build_torchvision.verify.run_probe import read_results
from build_torchvision.verify.static import TorchFacts, audit_wheel, claimed_variant
from build_torchvision.verify.target import Place
from build_torchvision.verify.upstream import (
    NEED_NETWORK,
    Suite,
    cpu_suite,
    gpu_suite,
    judge,
    read_report,
    upstream_tests,
)
from build_torchvision.wheel.descriptor import DESCRIPTOR

RET = bytes.fromhex("c3")
ADD_SSE = bytes.fromhex("0f58c2")  # addps xmm0, xmm2
FMA_YMM = bytes.fromhex("c4e275b8c2")  # vfmadd231ps ymm0, ymm1, ymm2
ADD_AVX = bytes.fromhex("c5f458c2")  # vaddps ymm0, ymm1, ymm2 (AVX only)
ADD_ZMM = bytes.fromhex("62f1744858c2")  # vaddps zmm0, zmm1, zmm2
ADD_YMM16 = bytes.fromhex("62e1742858c2")  # vaddps ymm16, ymm1, ymm2
ADD_MASKED = bytes.fromhex("62f1740958c2")  # vaddps xmm0{k1}, xmm1, xmm2
ADD_EVEX_XMM = bytes.fromhex("62f1740858c2")  # vaddps xmm0, xmm1, xmm2, spelled EVEX: no zmm, no mask
COMPARE_TO_MASK = bytes.fromhex("62f17408c2ca01")  # vcmpltps k1, xmm1, xmm2
DOT_VNNI = bytes.fromhex("62f2754850c2")  # vpdpbusd zmm0, zmm1, zmm2
DOT_BF16 = bytes.fromhex("62f2764852c2")  # vdpbf16ps zmm0, zmm1, zmm2
AES = bytes.fromhex("660f38dcc1")  # aesenc xmm0, xmm1
NOTHING = bytes.fromhex("06")  # push es: no instruction in 64-bit mode

SOURCE = "0a4a967bbb7f9810f792cd0289a07fb98c8fb5d1303fae8b63e3a6b05d720058"
OLD_STRING = "_ZN3c105ErrorC2ENS_14SourceLocationESs"
NEW_STRING = "_ZN3c105ErrorC2ENS_14SourceLocationENSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
TORCH = ("libc10.so", "libtorch.so", "libtorch_cpu.so")
MEMCPY = ("libc.so.6", "GLIBC_2.14")
CODECS = {"jpeg": "libjpeg-1a2b3c4d.so.62", "png": "libpng16-1a2b3c4d.so.16", "webp": "libwebp-1a2b3c4d.so.7"}


def schemas(namespace: str, release: str = "0.21.0") -> bytes:
    """What the modules of `release` register in `namespace`, as text in their data."""
    names = sorted(name for name in operators_of(release) or () if name.startswith(f"{namespace}::"))
    listed = [f"{name}(Tensor x) -> Tensor" for name in names if not name.endswith("::_cuda_version")]
    return b"\0" + "\0".join([*listed, *(["_cuda_version"] if namespace == "torchvision" else []), ""]).encode()


def descriptor(variant: Variant) -> dict[str, Any]:
    """What the descriptor of a wheel of `variant` says, as JSON."""
    codecs = {"jpeg": "2.1.5", "png": "1.6.39", "webp": "1.2.4"}
    spec = WheelSpec(
        variant=variant,
        release=releases()["0.21.0"],
        source=SourceIdentity(version="0.21.0", sha256=SOURCE, origin="archive"),
        torch=TorchIdentity(version="2.6.0", local=None, cuda=variant.cuda, cxx11_abi=False),
        compiler="clang 22.1.8",
        cuda_compiler="clang 22.1.8" if variant.cuda else None,
        codecs=tuple(CodecIdentity(name=name, version=codecs[name]) for name in sorted(CODECS)),
    )
    return dict(json.loads(spec.descriptor.dumps()))


@dataclass
class Wheel:
    """A wheel that is what it says, until a test changes something."""

    variant: str = "torchvision-python313-cpu-avx512"
    file_name: str | None = None
    main: Object = field(default_factory=lambda: Object())
    image: Object = field(default_factory=lambda: Object())
    bundled: dict[str, Object] = field(default_factory=dict)
    descriptor: dict[str, Any] = field(default_factory=dict)
    requirement: str = "torch==2.6.0"
    tag: str = "cp313-cp313-manylinux_2_28_x86_64"
    version: str = ""
    tamper: Callable[[dict[str, bytes]], None] = lambda files: None

    def __post_init__(self) -> None:
        variant = parse(self.variant)
        self.version = "0.21.0+" + local_version(variant, paired=True)
        needed = [*TORCH, "libstdc++.so.6", "libc.so.6"]
        undefined = {OLD_STRING: None, "memcpy": MEMCPY}
        code = FMA_YMM + (ADD_ZMM if variant.isa.startswith("avx512") else b"") + RET
        self.main = Object(
            code=code,
            rodata=schemas("torchvision"),
            needed=needed,
            undefined=dict(undefined),
            runpath="$ORIGIN",
        )
        self.image = Object(
            rodata=schemas("image"),
            needed=[*CODECS.values(), *needed],
            undefined={**undefined, "jpeg_start": None},
            runpath="$ORIGIN:$ORIGIN/../torchvision.libs",
        )
        self.bundled = {
            name: Object(soname=name, needed=["libc.so.6"], defined=["jpeg_start"]) for name in CODECS.values()
        }
        self.descriptor = descriptor(variant)

    def write(self, folder: Path) -> Path:
        info = f"torchvision-{self.version}.dist-info"
        files = {
            "torchvision/__init__.py": b"",
            "torchvision/_C.so": self.main.build(),
            "torchvision/image.so": self.image.build(),
            **{f"torchvision.libs/{name}": bundled.build() for name, bundled in self.bundled.items()},
            f"{info}/METADATA": (
                f"Metadata-Version: 2.4\nName: torchvision\nVersion: {self.version}\n"
                f"Requires-Dist: numpy\nRequires-Dist: {self.requirement}\n"
            ).encode(),
            f"{info}/WHEEL": f"Wheel-Version: 1.0\nTag: {self.tag}\n".encode(),
        }
        if self.descriptor:
            files[f"{info}/{DESCRIPTOR}"] = json.dumps(self.descriptor).encode()
        files[f"{info}/RECORD"] = record_of(files, info.removesuffix(".dist-info")).encode()
        self.tamper(files)
        path = folder / (self.file_name or f"torchvision-{self.version}-{self.tag}.whl")
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return path


@pytest.fixture(scope="module")
def torch(tmp_path_factory: pytest.TempPathFactory) -> TorchFacts:
    folder = tmp_path_factory.mktemp("torch")
    for name in TORCH:
        defined = [OLD_STRING, NEW_STRING] if name == "libc10.so" else []
        (folder / name).write_bytes(Object(soname=name, defined=defined).build())
    return TorchFacts(version="2.6.0", cuda=None, cxx11_abi=False, lib_dir=folder)


def failing(proof: Report) -> dict[str, str]:
    return {check.name: check.detail for check in proof.failed}


# --- what is as it says -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("isa", ["avx2", "avx512", "avx512vnni", "avx512bf16"])
def test_a_wheel_that_is_what_it_says_is_proved(isa: str, tmp_path: Path, torch: TorchFacts) -> None:
    proof = audit_wheel(Wheel(f"torchvision-python313-cpu-{isa}").write(tmp_path), torch=torch)
    assert failing(proof) == {}
    assert proof.ok
    assert proof.variant == f"torchvision-python313-cpu-{isa}"


def test_without_torchs_libraries_the_proof_says_that_symbols_were_not_resolved(tmp_path: Path) -> None:
    proof = audit_wheel(Wheel().write(tmp_path))
    assert proof.ok
    assert "not resolved" in {check.name: check.detail for check in proof.checks}["notes"]


def test_a_file_name_with_a_variant_label_is_read(tmp_path: Path, torch: TorchFacts) -> None:
    wheel = Wheel()
    wheel.file_name = f"torchvision-{wheel.version}-{wheel.tag}-avx512.whl"
    path = wheel.write(tmp_path)
    assert audit_wheel(path, torch=torch).ok
    assert parse_file_name(path.name).plain == f"torchvision-{wheel.version}-{wheel.tag}.whl"


def test_every_variant_is_claimed_by_the_file_name_of_its_wheel() -> None:
    for variant in every_variant():
        for paired, ptx in itertools.product((True, False), (True, False) if variant.sm else (False,)):
            version = f"0.21.0+{local_version(variant, paired=paired, ptx=ptx)}"
            tag = f"cp{variant.python}-cp{variant.python}-manylinux_2_28_{variant.platform}"
            assert parse_file_name(f"torchvision-{version}-{tag}.whl").claim() == (variant, paired, ptx)
            shared = f"0.21.0+{local_version(variant, paired=paired, ptx=ptx, with_variant_label=True)}".removesuffix(
                "+"
            )
            with_variant_label = parse_file_name(f"torchvision-{shared}-{tag}-{variant_label(variant, ptx=ptx)}.whl")
            assert with_variant_label.claim() == (variant, paired, ptx)


# --- planted faults, each caught by the check that is meant for it ----------------------------------------------------


def plant(change: Callable[[Wheel], object], tmp_path: Path, torch: TorchFacts, variant: str = "") -> dict[str, str]:
    wheel = Wheel(variant) if variant else Wheel()
    change(wheel)
    proof = audit_wheel(wheel.write(tmp_path), torch=torch)
    assert not proof.ok
    return failing(proof)


def test_a_generic_build_under_an_avx512_name_fails_with_trap_1(tmp_path: Path, torch: TorchFacts) -> None:
    found = plant(lambda w: setattr(w.main, "code", ADD_SSE * 50 + RET), tmp_path, torch)
    assert set(found) == {"ISA in use"}
    assert "trap 1" in found["ISA in use"]


def test_an_avx2_build_under_an_avx512_name_fails(tmp_path: Path, torch: TorchFacts) -> None:
    assert set(plant(lambda w: setattr(w.main, "code", FMA_YMM * 50 + RET), tmp_path, torch)) == {"ISA in use"}


def test_avx512_in_a_codec_only_extension_is_no_evidence(tmp_path: Path, torch: TorchFacts) -> None:
    def change(wheel: Wheel) -> None:
        wheel.main.code, wheel.image.code = FMA_YMM + RET, ADD_ZMM + RET

    assert set(plant(change, tmp_path, torch)) == {"ISA in use"}


def test_an_avx512_build_under_an_avx2_name_fails_with_the_instruction(tmp_path: Path, torch: TorchFacts) -> None:
    found = plant(lambda w: setattr(w.image, "code", ADD_ZMM + RET), tmp_path, torch, "torchvision-python313-cpu-avx2")
    assert set(found) == {"instructions"}
    assert "image.so has 1 AVX512F instructions" in found["instructions"]
    assert "vaddps" in found["instructions"]


@pytest.mark.parametrize("claimed", ["avx2", "avx512bf16"])
def test_a_renamed_wheel_fails_even_with_its_inside_untouched(claimed: str, tmp_path: Path, torch: TorchFacts) -> None:
    renamed = f"torchvision-0.21.0+cpu.{claimed}-cp313-cp313-manylinux_2_28_x86_64.whl"
    path = Wheel().write(tmp_path).rename(tmp_path / renamed)
    assert str(claimed_variant(path)) == f"torchvision-python313-cpu-{claimed}"
    found = failing(audit_wheel(path, torch=torch))
    assert "renamed" in found["identity"]
    assert ("instructions" in found) is (claimed == "avx2")


def test_a_stock_wheel_fails_and_says_why(tmp_path: Path, torch: TorchFacts) -> None:
    wheel = Wheel()
    wheel.version, wheel.descriptor = "0.21.0", {}
    path = wheel.write(tmp_path)
    assert "build-torchvision did not make it" in failing(audit_wheel(path, torch=torch))["identity"]
    assert not audit_wheel(path, parse(wheel.variant), torch).ok
    with pytest.raises(BadInput, match="names a variant"):
        claimed_variant(path)


SYMBOL = "_ZN2at9somethingEv"
FAULTS: dict[str, tuple[Callable[[Wheel], object], str, str]] = {
    "another Python's tag": (
        lambda w: setattr(w, "tag", "cp312-cp312-manylinux_2_28_x86_64"), "identity", "python312"
    ),
    "another platform's tag": (
        lambda w: setattr(w, "tag", "cp313-cp313-manylinux_2_28_aarch64"), "identity", "not one of x86_64"
    ),
    "an unrepaired wheel": (
        lambda w: setattr(w, "tag", "cp313-cp313-linux_x86_64"), "symbol versions", "not repaired"
    ),
    "another variant in the descriptor": (
        lambda w: w.descriptor.update(variant="torchvision-python313-cpu-avx512vnni"), "identity", "renamed"
    ),
    "an unpaired build under a paired name": (
        lambda w: w.descriptor.update(paired=False), "identity", "paired"
    ),
    "a requirement of another torch": (
        lambda w: setattr(w, "requirement", "torch==2.7.1"), "torch requirement", "trap 6"
    ),
    "a requirement that admits any torch": (
        lambda w: setattr(w, "requirement", "torch>=2.0"), "torch requirement", "the release pins torch==2.6.0"
    ),
    "a build for another torch": (
        lambda w: w.descriptor["torch"].update(version="2.7.1"), "torch requirement", "built for torch 2.7.1"
    ),
    "a missing requirement": (
        lambda w: setattr(w, "requirement", "numpy"), "torch requirement", "0 requirements"
    ),
    "a run path of the build machine": (
        lambda w: setattr(w.main, "rpath", "/opt/build/lib"), "run paths", "trap 8"
    ),
    "an empty run path entry, which is the working directory": (
        lambda w: setattr(w.main, "runpath", "$ORIGIN:"), "run paths", "''"
    ),
    "a run path that leaves site-packages": (
        lambda w: setattr(w.main, "runpath", "$ORIGIN/../../lib"), "run paths", "$ORIGIN/../../lib"
    ),
    "a run path that only begins like $ORIGIN": (
        lambda w: setattr(w.main, "runpath", "$ORIGINAL/lib"), "run paths", "$ORIGINAL"
    ),
    "a library that nobody brings": (
        lambda w: setattr(w.image, "needed", [*w.image.needed, "libx264.so.9"]), "libraries", "libx264.so.9"
    ),
    "a tie to Python's library": (
        lambda w: setattr(w.main, "needed", [*w.main.needed, "libtorch_python.so"]), "libraries", "libtorch_python"
    ),
    "a bundled library under a name that another may have": (
        lambda w: setattr(w.bundled[CODECS["png"]], "soname", "libpng16.so.16"), "libraries", "SONAME"
    ),
    "a symbol version newer than the tag": (
        lambda w: w.main.undefined.update(fmod=("libm.so.6", "GLIBC_2.38")), "symbol versions", "GLIBC_2.38"
    ),
    "a C++ runtime newer than the tag": (
        lambda w: w.main.undefined.update(x=("libstdc++.so.6", "GLIBCXX_3.4.32")), "symbol versions", "GLIBCXX_3.4.32"
    ),
    "the other C++ ABI": (lambda w: w.main.undefined.update({NEW_STRING: None}), "C++ ABI", "trap 7"),
    "a descriptor of the other C++ ABI": (
        lambda w: w.descriptor["torch"].update(cxx11_abi=True),
        "companion",
        "trap 7",
    ),
    "a Python symbol": (
        lambda w: w.image.undefined.update(PyObject_Call=None), "Python symbols", "PyObject_Call"
    ),
    "a symbol that this torch does not have": (
        lambda w: w.main.undefined.update({SYMBOL: None}), "symbols", SYMBOL
    ),
    "a codec that is not linked": (
        lambda w: setattr(w.image, "needed", [n for n in w.image.needed if "webp" not in n]), "codecs", "webp"
    ),
    "a codec that is not bundled": (lambda w: w.bundled.pop(CODECS["jpeg"]), "codecs", "not bundled"),
    "a codec that is not declared": (lambda w: w.descriptor["codecs"].pop(0), "codecs", "jpeg"),
    "a stripped operator": (
        lambda w: setattr(w.main, "rodata", w.main.rodata.replace(b"::_roi_pool_backward(", b"::_xxx_xxxx_xxxxxxxx(")),
        "operators",
        "torchvision::_roi_pool_backward",
    ),
    "a stripped image operator": (
        lambda w: setattr(w.image, "rodata", w.image.rodata.replace(b"decode_gif", b"decode_xxx")),
        "operators",
        "image::decode_gif",
    ),
    "bytes that are no instruction": (
        lambda w: setattr(w.main, "code", w.main.code + NOTHING), "instructions", "no instruction"
    ),
    "an instruction of no level": (lambda w: setattr(w.image, "code", AES + RET), "instructions", "AES"),
    "BF16 in a plain avx512 build": (
        lambda w: setattr(w.main, "code", w.main.code + DOT_BF16), "instructions", "AVX512_BF16"
    ),
    "code outside the sections": (
        lambda w: setattr(w.main, "hidden_code", ADD_ZMM), "instructions", "outside its sections"
    ),
    "another machine's object": (lambda w: setattr(w.image, "machine", 183), "extensions", "aarch64"),
    "a missing extension": (
        lambda w: setattr(w, "tamper", lambda files: files.pop("torchvision/image.so")), "extensions", "image.so"
    ),
    "a truncated object": (
        lambda w: setattr(w, "tamper", lambda files: files.update({"torchvision/_C.so": b"\x7fELF\x02"})),
        "ELF files",
        "_C.so",
    ),
    "a changed file": (
        lambda w: setattr(w, "tamper", lambda files: files.update({"torchvision/__init__.py": b"import os"})),
        "RECORD",
        "torchvision/__init__.py is not the file",
    ),
    "an unlisted file": (
        lambda w: setattr(w, "tamper", lambda files: files.update({"torchvision/extra.py": b""})),
        "RECORD",
        "extra.py is there and not listed",
    ),
    "a listed file that is missing": (
        lambda w: setattr(w, "tamper", lambda files: files.pop("torchvision/__init__.py")), "RECORD", "not there"
    ),
    "a path outside the wheel": (
        lambda w: setattr(w, "tamper", lambda files: files.update({"../evil.py": b""})), "RECORD", "outside the wheel"
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught_by_name(fault: str, tmp_path: Path, torch: TorchFacts) -> None:
    change, check, said = FAULTS[fault]
    found = plant(change, tmp_path, torch)
    assert said in found[check]


# What gcc 12 -O2 and -O3 leave of `torchvision::roi_align(Tensor input…) -> Tensor`, read in a `_C.so`: see static.py.
GCC_PIECES = (b"(Tensor dets, Te", b"torchvision::roi", b"ed) -> Tensor\0\0\0", b"_align(Tensor in")


@pytest.mark.parametrize(
    ("code", "registered"),
    [
        (b"".join(GCC_PIECES), True),
        (b"".join(GCC_PIECES[:3]), False),  # its first 16 bytes begin another operator's text too
        (b"\0" * 8 + b"".join(GCC_PIECES), False),  # no constants of a register: those are aligned
    ],
)
def test_a_schema_that_gcc_copies_by_registers_counts_as_registered(code: bytes, registered: bool) -> None:
    assert operators._registers(code, "torchvision", "roi_align") is registered


def test_a_name_that_gcc_writes_as_two_numbers_counts_as_registered() -> None:
    code = b"\x48\xb8_cuda_ve\x48\x89\x03\x48\xb8_version\x48"
    assert operators._registers(code, "torchvision", "_cuda_version")
    assert not operators._registers(code.replace(b"_cuda_ve", b"_cuda_xx"), "torchvision", "_cuda_version")


def test_a_wheel_for_another_torch_fails_beside_this_one(tmp_path: Path, torch: TorchFacts) -> None:
    other = TorchFacts(version="2.7.1", cuda="12.6", cxx11_abi=True, lib_dir=torch.lib_dir)
    found = failing(audit_wheel(Wheel().write(tmp_path), torch=other))
    assert {"torch requirement", "companion", "C++ ABI"} <= found.keys()


def test_a_build_against_the_new_abi_is_proved_beside_a_torch_of_the_new_abi(tmp_path: Path, torch: TorchFacts) -> None:
    wheel = Wheel()
    wheel.descriptor["torch"]["cxx11_abi"] = True
    for extension in (wheel.main, wheel.image):
        extension.undefined = {NEW_STRING: None, "memcpy": MEMCPY}
    other = TorchFacts(version="2.6.0", cuda=None, cxx11_abi=True, lib_dir=torch.lib_dir)
    assert failing(audit_wheel(wheel.write(tmp_path), torch=other)) == {}


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 and no more", b"not a zip"])
def test_what_is_no_wheel_is_bad_input(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "torchvision-0.21.0+cpu.avx2-cp313-cp313-manylinux_2_28_x86_64.whl"
    path.write_bytes(data)
    with pytest.raises(BadInput, match="not a whole wheel"):
        audit_wheel(path)


# --- instructions -----------------------------------------------------------------------------------------------------


def scanned(*code: bytes) -> dict[str, int]:
    found = scan([Section(name=".text", address=0x1000, data=b"".join(code))])
    return {
        "total": found.total,
        "avx2": found.shown["avx2"],
        "avx512": found.shown["avx512"],
        "invalid": len(found.invalid),
    }


@pytest.mark.parametrize(
    ("code", "avx2", "avx512"),
    [
        (ADD_SSE, 0, 0),
        (ADD_AVX, 0, 0),
        (FMA_YMM, 1, 0),
        (ADD_ZMM, 0, 1),
        (ADD_YMM16, 0, 1),
        (ADD_MASKED, 0, 1),
        (COMPARE_TO_MASK, 0, 1),
        (ADD_EVEX_XMM, 0, 0),
    ],
)
def test_evidence_is_counted_for_what_only_the_isa_has(code: bytes, avx2: int, avx512: int) -> None:
    assert scanned(code, RET) == {"total": 2, "avx2": avx2, "avx512": avx512, "invalid": 0}


def test_an_invalid_instruction_is_told_with_its_place() -> None:
    found = scan([Section(name=".text", address=0x1000, data=RET + NOTHING)])
    assert found.invalid == [".text+0x1"]


@pytest.mark.parametrize(
    ("code", "lowest"), [(FMA_YMM, "avx2"), (ADD_ZMM, "avx512"), (DOT_VNNI, "avx512vnni"), (DOT_BF16, "avx512bf16")]
)
def test_an_instruction_is_beyond_exactly_the_isas_below_its_own(code: bytes, lowest: str) -> None:
    order = ["avx2", "avx512", "avx512vnni", "avx512bf16"]
    found = scan([Section(name=".text", address=0, data=code)])
    assert [isa for isa in order if not beyond(found, isa)] == order[order.index(lowest) :]


def test_every_x86_feature_of_the_facts_is_known_to_the_decoder() -> None:
    for isa in isas().values():
        if isa.platform == "x86_64":
            assert allowed_features(isa.name) <= vars(CpuidFeature).keys()
    assert V1 | V2 <= allowed_features("avx2") < allowed_features("avx512")


# --- ELF --------------------------------------------------------------------------------------------------------------


def test_an_elf_file_is_read_as_it_was_made(tmp_path: Path) -> None:
    made = Object(
        needed=["libc.so.6"], soname="libx.so.1", rpath="/a:/b", runpath="$ORIGIN", defined=["here"],
        undefined={"memcpy": MEMCPY, "there": None},
    )  # fmt: skip
    elf = read_elf(made.build())
    assert (elf.machine, elf.soname, elf.needed) == ("x86_64", "libx.so.1", ("libc.so.6",))
    assert elf.run_paths == (("RPATH", "/a:/b"), ("RUNPATH", "$ORIGIN"))
    assert {(s.name, s.library, s.version) for s in elf.undefined} == {("memcpy", *MEMCPY), ("there", None, None)}
    assert elf.versions == (MEMCPY,)
    assert elf.defined == {"here"}
    assert [section.data for section in elf.code] == [RET]
    (tmp_path / "libx.so").write_bytes(made.build())
    assert defined_symbols(tmp_path / "libx.so") == {"here"}


@pytest.mark.parametrize("keep", [0, 5, 64, 200, 0x1000, -64])
def test_a_truncated_elf_file_is_told(keep: int) -> None:
    with pytest.raises(NotElf):
        read_elf(Object(defined=["here"]).build()[:keep])


def test_the_running_interpreters_libraries_are_read() -> None:
    """The hand-made files above follow the format of real ones: a real one is read too."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("no /proc on this system, so no real shared object is known here")
    paths = re.findall(r"\s(/\S*libc\.so\.6)$", maps.read_text(encoding="utf-8"), re.MULTILINE)
    if not paths:
        pytest.skip("this Python does not use glibc")
    elf = read_elf(Path(paths[0]).read_bytes())
    assert elf.soname == "libc.so.6"
    assert "memcpy" in elf.defined
    assert elf.code


# --- proofs -----------------------------------------------------------------------------------------------------------


def test_a_proof_survives_json_and_holds_only_if_all_checks_do() -> None:
    good, bad = Check(name="a", ok=True, detail="x"), Check(name="b", ok=False, detail="why")
    proof = Report(variant="v", checks=(good, bad))
    assert proof.to_json() == {
        "variant": "v",
        "ok": False,
        "checks": [
            {"name": "a", "ok": True, "detail": "x", "part": "static", "judged": True},
            {"name": "b", "ok": False, "detail": "why", "part": "static", "judged": True},
        ],
    }
    assert Report.from_json(json.loads(proof.dumps())) == proof
    assert Report(variant="v", checks=(good,)).ok
    assert not (Report(variant="v", checks=(good,)) + proof).ok
    with pytest.raises(VerificationFailed, match="b: why"):
        proof.require("Build it again.")


def test_a_report_in_which_nothing_was_judged_does_not_hold() -> None:
    unknown = Check.not_judged("operators", "no row lists this release.")
    assert not Report(variant="v", checks=(unknown,)).ok
    report = Report(variant="v", checks=(unknown, Check(name="a", ok=True, detail="x")))
    assert report.ok
    assert report.not_judged == (unknown,)


def test_a_proof_without_checks_proves_nothing() -> None:
    empty = Report(variant="v", checks=())
    assert not empty.ok
    with pytest.raises(VerificationFailed, match="nothing was checked"):
        empty.require("Build it again.")


# --- run time ---------------------------------------------------------------------------------------------------------


def ended(code: int, stderr: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess([], code, "", stderr)


def lines(*rows: dict[str, object]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


IMPORTED = ({"start": "import"}, {"name": "import", "ok": True, "detail": "0.21.0"})


def test_a_probe_that_meets_an_illegal_instruction_names_the_operator() -> None:
    checks = [row.check for row in read_results(lines(*IMPORTED, {"start": "nms"}), ended(-4))]
    assert [check.ok for check in checks] == [True, False]
    assert "at nms: stopped by SIGILL" in checks[-1].detail


@pytest.mark.parametrize(("text", "code"), [("", 0), ("", 1), (lines(*IMPORTED), 1), (lines(*IMPORTED), 3)])
def test_a_probe_without_all_its_results_fails(text: str, code: int) -> None:
    assert not all(row.check.ok for row in read_results(text, ended(code, "Traceback")))


def test_a_probe_whose_checks_hold_passes() -> None:
    assert [row.check.ok for row in read_results(lines(*IMPORTED), ended(0))] == [True]


@pytest.mark.parametrize(
    ("cases", "ok", "said"),
    [
        ("<testcase/><testcase/>", True, "2 passed, 0 failed, 0 skipped"),
        ("<testcase/><testcase/><testcase name='t'><failure/></testcase>", False, "t failed"),
        ("<testcase/><testcase/><testcase name='t'><error/></testcase>", False, "t failed"),
        ("<testcase/><testcase><skipped message='no CUDA'/></testcase>", False, "1 skipped (1 no CUDA)"),
        ("", False, "0 passed"),
    ],
)
def test_upstreams_tests_need_no_failure_and_enough_passes(cases: str, ok: bool, said: str) -> None:
    check = judge(read_report(f"<testsuites><testsuite>{cases}</testsuite></testsuites>"), at_least=2)
    assert check.ok is ok
    assert said in check.detail


def test_upstreams_floors_are_those_of_the_release() -> None:
    every = ("jpeg", "png", "webp")
    old, new, never = (releases()[version] for version in ("0.21.0", "0.28.0", "0.20.0"))
    images = cpu_suite(new, every)
    assert images.files == ("test_ops.py", "test_image.py")
    assert images.at_least == new.upstream_tests["ops"] + new.upstream_tests["image"]
    assert images.deselected == NEED_NETWORK
    assert cpu_suite(old, ("jpeg",)) == Suite(files=("test_ops.py",), at_least=755), "its image tests cannot pass"
    assert not never.upstream_tests
    assert cpu_suite(never, every) == Suite(files=images.files, at_least=None, deselected=NEED_NETWORK)
    assert gpu_suite(old, nvjpeg=True).at_least == 434
    assert gpu_suite(old, nvjpeg=False).at_least == 410


def test_only_the_image_test_that_downloads_is_left_out() -> None:
    """pytest leaves out every test whose name begins so: test_decode_gif_frame_outside_canvas needs no network."""
    (left_out,) = NEED_NETWORK
    assert "test/test_image.py::test_decode_gif[welcome2-True]".startswith(left_out)
    assert not "test/test_image.py::test_decode_gif_frame_outside_canvas[0]".startswith(left_out)


def test_what_passed_is_counted_by_file() -> None:
    """So that a maintainer can write the floors of a release into its row."""
    names = ("test.test_ops.TestNMS", "test.test_ops.TestNMS", "test.test_image")
    cases = "".join(f"<testcase classname='{name}' name='t'/>" for name in names)
    check = judge(read_report(f"<testsuites><testsuite>{cases}</testsuite></testsuites>"), at_least=3)
    assert "3 passed (test_image.py: 1, test_ops.py: 2), 0 failed" in check.detail


def test_where_no_floor_is_known_one_must_pass_and_the_report_says_so() -> None:
    one = read_report("<testsuites><testsuite><testcase name='t'/></testsuite></testsuites>")
    check = judge(one, None)
    assert check.ok
    assert "how many should pass is not known for this release" in check.detail
    assert not judge([], None).ok


def test_the_running_interpreter_is_found_first() -> None:
    python = f"{sys.version_info.major}{sys.version_info.minor}"
    assert environments.find_python(python) == Path(sys.executable)


def test_a_shim_of_a_version_that_is_not_installed_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shim = tmp_path / "python3.99"
    shim.write_text("#!/bin/sh\necho 'not installed' >&2\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(MissingInput, match=r"Install Python 3\.99"):
        environments.find_python("399", install=False)
    shim.write_text("#!/bin/sh\necho 3 99 0\n")
    assert environments.find_python("399") == shim


def test_the_tests_of_a_folder_without_tests_are_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no test/test_ops\.py"):
        upstream_tests(tmp_path, Place(python=tmp_path), Suite(files=("test_ops.py",), at_least=1))
