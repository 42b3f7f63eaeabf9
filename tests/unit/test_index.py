"""The index: only proved wheels enter, and what it says of them is true. No compiler, no network, no torch."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import zipfile
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from _sealed import sealed
from _wheels import pack
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from test_audit import SOURCE, Wheel
from variantlib.variants_json import VariantsJson

from build_torchvision.errors import BadInput, VerificationFailed
from build_torchvision.publish import catalogue
from build_torchvision.publish.admission import admit, admit_all, find_wheels
from build_torchvision.publish.front import front_page
from build_torchvision.publish.provenance import check_signed, load_signer
from build_torchvision.publish.run_report import save_run
from build_torchvision.publish.site import write_site
from build_torchvision.verify.checks import Check, Part, Report
from build_torchvision.wheel import archive
from build_torchvision.wheel.assemble import embed_report

NAMES = [f"torchvision-python{py}-cpu-{isa}" for py in ("312", "313") for isa in ("avx2", "avx512")]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index") / "dist"
    for name in NAMES:
        sealed(folder, name)
    return folder


@pytest.fixture(scope="module")
def site(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "site"
    write_site(admit_all(find_wheels([dist])), out)
    return out


class Anchors(HTMLParser):
    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[dict[str, str]] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found.append({key: value or "" for key, value in attrs})


# --- who may enter ----------------------------------------------------------------------------------------------------


def test_a_proved_wheel_enters(tmp_path: Path) -> None:
    wheel = admit(sealed(tmp_path / "dist"))
    assert str(wheel.variant) == "torchvision-python313-cpu-avx512"
    assert wheel.torch_requirement == "==2.6.0"
    assert wheel.run_proof is None


def rewritten(change: Callable[[Path], None], path: Path, tmp_path: Path) -> Path:
    """The wheel with `change` made to its tree and RECORD made right again, as a careful forger would."""
    tree = archive.unpack(path, tmp_path / "tree")
    change(tree)
    return pack(tree, path)


def inside(tree: Path, name: str) -> Path:
    return next(tree.glob("*.dist-info")) / name


def test_a_file_changed_after_the_proof_is_refused_though_record_is_right(tmp_path: Path) -> None:
    path = rewritten(
        lambda tree: (tree / "torchvision/__init__.py").write_text("import os"), sealed(tmp_path / "dist"), tmp_path
    )
    with pytest.raises(VerificationFailed, match="changed after its report"):
        admit(path)


def test_a_forged_proof_does_not_pass_off_another_isa(tmp_path: Path) -> None:
    """Even with a proof that was bound anew to the changed files: the instructions are decoded again."""
    other = sealed(tmp_path / "other", "torchvision-python313-cpu-avx2")
    path = sealed(tmp_path / "dist")
    with zipfile.ZipFile(other) as wheel:
        code = wheel.read("torchvision/_C.so")
    with zipfile.ZipFile(path) as wheel:
        (name,) = [name for name in wheel.namelist() if name.endswith("proof.json")]
        proof = wheel.read(name).decode()
    changed = rewritten(lambda tree: (tree / "torchvision/_C.so").write_bytes(code), path, tmp_path)
    embed_report(archive.read(changed), proof, changed)
    with pytest.raises(VerificationFailed, match="ISA in use"):
        admit(path)


def test_a_wheel_without_proof_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VerificationFailed, match="carries no report"):
        admit(Wheel().write(tmp_path))


def test_a_proof_that_failed_or_is_anothers_or_saw_no_torch_is_refused(tmp_path: Path) -> None:
    path = sealed(tmp_path / "dist")
    variant, seen = "torchvision-python313-cpu-avx512", Check(name="symbols", ok=True, detail="")
    for proof, said in (
        (Report(variant=variant, checks=(Check(name="symbols", ok=False, detail="lost"),)), "symbols: lost"),
        (Report(variant="torchvision-python313-cpu-avx2", checks=(seen,)), "is one of torchvision-python313-cpu-avx2"),
        (Report(variant=variant, checks=(Check(name="identity", ok=True, detail=""),)), "does not cover symbols"),
        (Report(variant=variant, checks=()), "nothing was checked"),
    ):
        embed_report(archive.read(path), proof.dumps(), path)
        with pytest.raises(VerificationFailed, match=said):
            admit(path)


def test_a_renamed_wheel_is_refused(tmp_path: Path) -> None:
    path = sealed(tmp_path / "dist")
    renamed = path.rename(path.with_name(path.name.replace("avx512", "avx2")))
    with pytest.raises(VerificationFailed, match="its name says torchvision-python313-cpu-avx2"):
        admit(renamed)


def test_all_refused_wheels_are_named_and_nothing_is_written(tmp_path: Path) -> None:
    sealed(tmp_path / "dist", NAMES[0])
    bare = Wheel().write(tmp_path / "dist")
    junk = tmp_path / "dist" / "torchvision-0.21.0-cp313-cp313-manylinux1_x86_64.whl"
    junk.write_bytes(b"PK")
    with pytest.raises(VerificationFailed) as caught:
        admit_all(find_wheels([tmp_path / "dist"]))
    assert "2 may not enter" in caught.value.problem
    assert bare.name in caught.value.problem
    assert f"{junk.name}: it is not a whole wheel" in caught.value.problem


def test_a_place_without_wheels_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        find_wheels([tmp_path / "absent"])
    with pytest.raises(BadInput, match="no wheel in it"):
        find_wheels([tmp_path])


def test_two_wheels_of_one_name_and_other_bytes_are_refused(tmp_path: Path) -> None:
    first = sealed(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / first.name).write_bytes(first.read_bytes() + b"\0")
    with pytest.raises(BadInput, match="same name and other bytes"):
        find_wheels([tmp_path / "a", tmp_path / "b"])


def test_a_proof_of_a_run_counts_only_for_the_bytes_that_ran(tmp_path: Path) -> None:
    path = sealed(tmp_path / "dist")
    variant = "torchvision-python313-cpu-avx512"
    ran = Report(variant=variant, checks=(Check(name="runs: nms", ok=True, detail="", part="cpu"),))
    saved = save_run(path, ran)
    assert admit(path).run_proof == ran
    text = saved.read_text()
    for change, said in (
        (lambda data: data | {"sha256": "0" * 64}, "another wheel"),
        (lambda data: data | {"proof": Report(variant=variant, checks=()).to_json()}, "no check of a run"),
        (lambda data: {}, "cannot be read"),
    ):
        saved.write_text(json.dumps(change(json.loads(text))))
        with pytest.raises(VerificationFailed, match=said):
            admit(path)
    failed = Report(variant=variant, checks=(Check(name="runs: nms", ok=False, detail="lost a box", part="cpu"),))
    save_run(path, failed)
    with pytest.raises(VerificationFailed, match="lost a box"):
        admit(path)
    with pytest.raises(BadInput, match="Nothing was run"):
        save_run(path, Report(variant=variant, checks=(Check(name="identity", ok=True, detail=""),)))


def test_a_run_on_a_gpu_is_told_from_one_on_a_cpu(tmp_path: Path) -> None:
    path = sealed(tmp_path / "dist")
    parts: list[tuple[str, Part]] = [("runs: nms", "cpu"), ("GPU: nms", "gpu"), ("GPU: kernels", "gpu")]
    for count in (1, 3):
        checks = tuple(Check(name=name, ok=True, detail="", part=part) for name, part in parts[:count])
        save_run(path, Report(variant="torchvision-python313-cpu-avx512", checks=checks))
        row = catalogue.record(admit(path), provenance="x", sbom="y")
        assert (row.run_checks, row.gpu_checks) == (count, max(0, count - 1))
        assert ("of them on a GPU" in front_page([row], signed=False).partition("<script")[0]) is (count == 3)


def test_a_benchmark_is_shown_with_the_wheel_that_it_measured_alone(tmp_path: Path) -> None:
    path = sealed(tmp_path / "dist")
    ratio = {"value": 1.4231, "low": 1.4, "high": 1.45}
    said = {
        "about": {"torchvision": "0.21.0", "torch": "2.6.0", "machine": "AMD EPYC (zen4), 2 cores"},
        "means": {"cpu.avx512": {"1": {"all": ratio}, "2": {"all": ratio}}},
        "sha256": {"cpu.avx512": hashlib.sha256(path.read_bytes()).hexdigest()},
    }
    beside = path.with_name("bench.json")
    beside.write_text(json.dumps(said))
    wheel = admit(path)
    assert wheel.bench == {
        "against": "the stock wheel of 0.21.0",
        "machine": "AMD EPYC (zen4), 2 cores",
        "geomean": 1.4231,
        "low": 1.4,
        "high": 1.45,
    }
    row = catalogue.record(wheel, provenance="p", sbom="s")
    assert "1.42\u00d7 the stock wheel of 0.21.0" in front_page([row], signed=False)
    for key, other in (
        ("sha256", {"cpu.avx512": "0" * 64}),
        ("sha256", {"cpu.avx2": said["sha256"]["cpu.avx512"]}),
        ("means", {"cpu.avx512": {"cuda": {"all": ratio}}}),
        ("about", {"torchvision": "0.22.1", "machine": "x"}),
    ):
        beside.write_text(json.dumps(said | {key: other}))
        assert admit(path).bench is None
    for wrong in ("[]", "{}", json.dumps(said | {"means": {}})):
        beside.write_text(wrong)
        with pytest.raises(BadInput, match="not what `bench --out` writes"):
            admit(path)


# --- what the site says -----------------------------------------------------------------------------------------------


def test_every_page_leads_to_whole_files(site: Path, dist: Path) -> None:
    pages = sorted(site.rglob("simple/torchvision/index.html"))
    assert len(pages) == 3  # all, avx2, avx512
    for page in pages:
        for anchor in Anchors(page).found:
            address, _, fragment = anchor["href"].partition("#sha256=")
            path = (page.parent / unquote(address)).resolve()
            assert hashlib.sha256(path.read_bytes()).hexdigest() == fragment
            assert path.read_bytes() == (dist / path.name).read_bytes()
            metadata = path.with_name(path.name + ".metadata").read_bytes()
            assert anchor["data-core-metadata"] == f"sha256={hashlib.sha256(metadata).hexdigest()}"
            assert anchor["data-requires-python"] == ">=3.9"
            with zipfile.ZipFile(path) as wheel:
                (name,) = [name for name in wheel.namelist() if name.endswith("/METADATA")]
                assert wheel.read(name) == metadata


def test_html_and_json_say_the_same(site: Path) -> None:
    for page in site.rglob("simple/torchvision/index.html"):
        data = json.loads(page.with_name("index.json").read_text())
        assert data["meta"]["api-version"] == "1.1"
        links = {anchor["href"].partition("#")[0]: anchor for anchor in Anchors(page).found}
        assert {row["url"] for row in data["files"]} == set(links)
        for row in data["files"]:
            assert links[row["url"]]["href"].endswith(f"#sha256={row['hashes']['sha256']}")
            assert row["size"] == (page.parent / unquote(row["url"])).stat().st_size
        assert set(data["versions"]) == {row["filename"].split("-")[1] for row in data["files"]}


def test_the_index_of_one_variant_holds_that_variant_for_every_python(site: Path) -> None:
    names = [
        row["filename"] for row in json.loads((site / "cpu-avx2/simple/torchvision/index.json").read_text())["files"]
    ]
    assert sorted(re.findall(r"\+(\S+?)-(cp\d+)-", " ".join(names))) == [("cpu.avx2", "cp312"), ("cpu.avx2", "cp313")]


def test_sha256sum_checks_every_file(site: Path) -> None:
    done = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=site, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    files = {str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()} - {"SHA256SUMS"}
    assert {line.rpartition(": ")[0] for line in done.stdout.splitlines()} == files


def test_provenance_names_the_wheel_its_source_and_torch(site: Path) -> None:
    for row in catalogue.load((site / "index.json").read_text(), "site"):
        data = json.loads((site / unquote(row.provenance)).read_text())
        assert data["subject"] == [{"name": row.file, "digest": {"sha256": row.sha256}}]
        (source, torch, *_) = data["predicate"]["buildDefinition"]["resolvedDependencies"]
        assert source["digest"] == {"sha256": SOURCE}
        assert torch["uri"] == "pkg:pypi/torch@2.6.0"


def keys(folder: Path, name: str) -> tuple[Path, Path]:
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    key = Ed25519PrivateKey.generate()
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


def test_signed_provenance_is_checked_and_no_other_key_or_file_passes(dist: Path, tmp_path: Path) -> None:
    private, public = keys(tmp_path, "maker")
    _, stranger = keys(tmp_path, "stranger")
    (row, *_) = write_site(admit_all(find_wheels([dist])), tmp_path / "site", signer=load_signer(private))
    text = (tmp_path / "site" / unquote(row.provenance)).read_text()
    check_signed(text, public, name=row.file, sha256=row.sha256)
    for key, name, digest in (
        (stranger, row.file, row.sha256),
        (public, row.file, "0" * 64),
        (public, "x", row.sha256),
    ):
        with pytest.raises(VerificationFailed):
            check_signed(text, key, name=name, sha256=digest)
    with pytest.raises(VerificationFailed):
        check_signed('{"unsigned": true}', public, name=row.file, sha256=row.sha256)
    with pytest.raises(BadInput, match="no usable PEM key"):
        load_signer(public)


def test_labelled_wheels_share_a_version_and_one_variants_file_that_variantlib_reads(tmp_path: Path) -> None:
    for name in NAMES[2:]:
        sealed(tmp_path / "dist", name, with_variant_label=True)
    rows = write_site(admit_all(find_wheels([tmp_path / "dist"])), tmp_path / "site")
    assert {row.version for row in rows} == {"0.21.0"}
    (page,) = (tmp_path / "site/simple/torchvision").glob("*-variants.json")
    assert page.name == "torchvision-0.21.0-variants.json"
    assert set(VariantsJson(json.loads(page.read_text())).variants) == {"avx2", "avx512"}
    assert page.name in (page.parent / "index.html").read_text()


def test_a_label_that_is_not_the_variants_own_is_refused(tmp_path: Path) -> None:
    path = sealed(tmp_path / "dist", with_variant_label=True)
    with pytest.raises(VerificationFailed, match="its name says torchvision-python313-cpu-avx2"):
        admit(path.rename(path.with_name(path.name.replace("avx512", "avx2"))))
    path = sealed(tmp_path / "plain")
    with pytest.raises(VerificationFailed, match="the label is avx2"):
        admit(path.rename(path.with_name(path.name.replace(".whl", "-avx2.whl"))))


def test_the_same_wheels_give_the_same_site(dist: Path, site: Path, tmp_path: Path) -> None:
    write_site(admit_all(find_wheels([dist])), tmp_path / "again")
    assert (tmp_path / "again/SHA256SUMS").read_text() == (site / "SHA256SUMS").read_text()


def test_a_site_is_replaced_whole_and_nothing_else_is_touched(dist: Path, tmp_path: Path) -> None:
    wheels = admit_all(find_wheels([dist]))
    write_site(wheels, tmp_path / "site")
    write_site(wheels[:1], tmp_path / "site")
    assert len(list(tmp_path.glob("site/files/*.whl"))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["site"]
    (tmp_path / "home").mkdir()
    (tmp_path / "home/letter").write_text("mine")
    with pytest.raises(BadInput, match="no index"):
        write_site(wheels, tmp_path / "home")
    assert (tmp_path / "home/letter").read_text() == "mine"


def test_a_page_that_is_no_index_is_refused() -> None:
    for text in ("<html>", "[]", '{"schema": 1}', '{"schema": 1, "wheels": [{"variant": "x"}]}'):
        with pytest.raises(BadInput, match="not one of ours"):
            catalogue.load(text, "http://127.0.0.1")
    with pytest.raises(BadInput, match="schema 3"):
        catalogue.load('{"schema": 3, "wheels": []}', "http://127.0.0.1")
