"""The facts of one wheel: made once, written into the wheel, read back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from build_torchvision import __version__
from build_torchvision.facts import releases
from build_torchvision.flags import Tuning, tuning_for
from build_torchvision.releases import TorchBuild, unlisted_release
from build_torchvision.spec import (
    SCHEMA,
    CodecIdentity,
    Descriptor,
    Named,
    SourceIdentity,
    TorchIdentity,
    WheelSpec,
    distinct,
    local_version,
    parse_label,
    parse_local_version,
    variant_label,
)
from build_torchvision.variants import Variant, every_variant, parse

VARIANTS = st.sampled_from(every_variant())


def spec(
    name: str = "torchvision-python313-cpu-avx512", *, release: str = "0.29.1", torch: str = "2.14.0"
) -> WheelSpec:
    variant = parse(name)
    return WheelSpec(
        variant=variant,
        release=releases()[release],
        source=SourceIdentity(version=release, sha256="ab" * 32, origin="archive"),
        torch=TorchIdentity(version=torch, local=None, cuda=variant.cuda, cxx11_abi=True),
        compiler="clang 22.1.8",
        cuda_compiler="clang 22.1.8" if variant.cuda else None,
        codecs=(CodecIdentity(name="png", version="1.6.43"),),
        tuning=tuning_for(variant.platform),
    )


@given(VARIANTS, st.booleans(), st.booleans(), st.booleans())
def test_a_local_version_says_what_it_was_made_of(variant: Variant, paired: bool, ptx: bool, listed: bool) -> None:
    paired, ptx = paired and listed, ptx and variant.sm is not None
    text = local_version(variant, paired=paired, ptx=ptx, listed=listed)
    assert str(Version(f"1+{text}")) == f"1+{text}"
    named = Named(variant.track, variant.sm, variant.isa, ptx, paired, listed)
    assert parse_local_version(text) == named
    assert parse_label(variant_label(variant, ptx=ptx)) == named._replace(paired=True, listed=True)


@pytest.mark.parametrize("text", ["", "cpu", "avx2", "cpu.avx3", "cu128.avx2", "cu128.sm90", "unpaired", "cpu.avx2.x"])
def test_other_local_versions_say_nothing(text: str) -> None:
    assert parse_local_version(text) is None
    assert parse_label(text.replace(".", "_")) is None or text == "avx2"


def test_a_torch_pairs_by_the_release_and_by_its_gpu_code() -> None:
    assert [spec(torch=torch).paired for torch in ("2.13.0", "2.14.0", "2.14.1", "2.15.0")] == [False, True, True, True]
    assert spec(torch="2.15.0").torch_requirement == ">=2.14.0"
    assert spec(torch="2.13.0").torch_requirement == "==2.13.0"
    assert spec(torch="2.13.0").version == "0.29.1+cpu.avx512.unpaired"
    older = spec(release="0.28.0", torch="2.13.0")
    assert (older.paired, older.torch_requirement) == (True, "==2.13.0")
    orin = spec("torchvision-python313-cuda12_8-sm87-armv8_2", release="0.25.0", torch="2.10.0")
    for cubins, paired in ((("sm80",), False), (("sm87",), True)):
        identity = TorchIdentity(version="2.10.0", local=None, cuda="12.8", cxx11_abi=True, cubins=cubins, ptx=())
        assert replace(orin, torch=identity).paired is paired


def test_a_release_that_no_row_describes_is_marked() -> None:
    unknown = unlisted_release("0.30.0a0", TorchBuild(version="2.15.0", cuda="13.2"))
    made = replace(spec(), release=unknown, source=SourceIdentity(version="0.30.0a0", sha256="0", origin="local"))
    assert made.version == "0.30.0a0+cpu.avx512.unlisted"
    assert (made.paired, made.descriptor.listed) == (False, False)


def test_a_wheel_for_every_python_is_made_once() -> None:
    names = [f"torchvision-python{python}-cpu-avx512" for python in ("312", "313")]
    for any_python, count in ((True, 1), (False, 2)):
        wheels = distinct([replace(spec(name), any_python=any_python) for name in names])
        assert len(wheels) == count
    assert str(replace(spec(), any_python=True).linux_tag) == "py3-none-linux_x86_64"
    assert str(spec("torchvision-python313t-cpu-avx2").linux_tag) == "cp313-cp313t-linux_x86_64"


@pytest.mark.parametrize("name", ["torchvision-python313-cpu-avx512", "torchvision-python313-cuda13_0-sm90-armv9"])
def test_a_descriptor_survives_being_written(name: str) -> None:
    written = spec(name).descriptor
    data = written.dumps()
    assert Descriptor.loads(data) == written
    assert Descriptor.loads(data).dumps() == data
    fields = json.loads(data)
    assert (fields["schema"], fields["tool"], fields["variant"]) == (SCHEMA, __version__, name)
    assert "-fno-math-errno" in fields["tuning"]["floating_point"]
    assert replace(spec(name), tuning=Tuning()).descriptor.tuning == Tuning()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda fields: fields.pop("torch"), "missing required field `torch`"),
        (lambda fields: fields["torch"].update(version=7), r"\$\.torch\.version"),
        (lambda fields: fields.update(schema=1), "schema 1, this version reads 2"),
        (lambda fields: fields.update(paired="yes"), r"\$\.paired"),
        (lambda fields: fields.update(source=[]), r"\$\.source"),
    ],
)
def test_a_damaged_descriptor_is_refused_with_the_field(change: object, why: str) -> None:
    fields = json.loads(spec().descriptor.dumps())
    change(fields)  # type: ignore[operator]
    with pytest.raises(ValueError, match=why):
        Descriptor.loads(json.dumps(fields).encode())


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"\xff", b"{", b'{"torch":' + b"[" * 100_000])
def test_what_is_no_descriptor_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Descriptor.loads(data)
