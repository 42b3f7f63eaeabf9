"""An index of many wheels: it grows by what is new, and an installer reads little of it."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from _fleet import clone
from _sealed import sealed
from test_install import wheel

from build_torchvision.install.remote import remote
from build_torchvision.publish import admission, catalogue
from build_torchvision.publish.admission import admit_all, find_wheels
from build_torchvision.publish.site import held, known_wheels, write_site
from build_torchvision.verify.checks import Report
from build_torchvision.verify.package import Package

ISAS = ("avx2", "avx512")


@pytest.fixture
def audited(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the wheels that are audited."""
    names: list[str] = []
    real = admission.audit_package

    def audit(package: Package, *arguments: Any) -> Report:
        names.append(package.path.name)
        return real(package, *arguments)

    monkeypatch.setattr(admission, "audit_package", audit)
    return names


def fleet(folder: Path, count: int, first: int = 0) -> list[Path]:
    """`count` wheels in `folder`/dist, of releases from 1.`first`.0 on."""
    (folder / "dist").mkdir(exist_ok=True)
    bases = [sealed(folder / "base", f"torchvision-python313-cpu-{isa}") for isa in ISAS]
    return [clone(bases[n % len(bases)], folder / "dist", f"1.{n}.0") for n in range(first, first + count)]


def index(folder: Path) -> list[catalogue.Record]:
    out = folder / "site"
    return write_site(admit_all(find_wheels([folder / "dist"]), known_wheels(out)), out)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_an_index_has_is_not_audited_again_and_the_site_is_the_same(tmp_path: Path, audited: list[str]) -> None:
    fleet(tmp_path, 12)
    index(tmp_path)
    assert len(audited) == 12
    audited.clear()
    new = fleet(tmp_path, 3, first=12)
    index(tmp_path)
    assert sorted(audited) == sorted(path.name for path in new)
    write_site(admit_all(find_wheels([tmp_path / "dist"])), tmp_path / "anew")
    assert contents(tmp_path / "anew") == contents(tmp_path / "site")


def test_other_bytes_another_version_of_the_tool_and_a_changed_sbom_are_audited(
    tmp_path: Path, audited: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third, _ = fleet(tmp_path, 4)
    rows = {row.file: row for row in index(tmp_path)}
    first.write_bytes(first.read_bytes() + b"\0")
    (tmp_path / "site" / unquote(rows[second.name].sbom)).write_text("{}")
    audited.clear()
    known = known_wheels(tmp_path / "site")
    assert second.name not in known
    admit_all([first, second, third], known)
    assert audited == [first.name, second.name]
    monkeypatch.setattr(catalogue, "GENERATOR", "build-torchvision 99")
    assert known_wheels(tmp_path / "site") == {}


def test_wheels_of_an_index_are_hard_links_in_the_next_and_damaged_ones_are_made_whole(tmp_path: Path) -> None:
    first, second = fleet(tmp_path, 2)
    index(tmp_path)
    files = tmp_path / "site/files"
    inode = (files / first.name).stat().st_ino
    (files / second.name).write_bytes(b"damaged")
    index(tmp_path)
    assert (files / first.name).stat().st_ino == inode
    assert (files / second.name).read_bytes() == second.read_bytes()


def test_adding_keeps_what_the_index_has(tmp_path: Path) -> None:
    paths = fleet(tmp_path, 3)
    write_site(admit_all(paths[:2]), tmp_path / "site")
    kept, stock = held(tmp_path / "site")
    assert [path.name for path in kept] == sorted(path.name for path in paths[:2])
    assert stock == []


def many(count: int) -> list[catalogue.Record]:
    """Records of `count` wheels, no two with one digest."""
    rows = []
    for number in range(count):
        digest = sha256(str(number).encode()).hexdigest()
        isa = ("avx2", "avx512", "armv8_2", "armv9")[number % 4]
        row = wheel(f"cuda12_8-sm{(80, 86, 89, 90, 100, 120)[number // 4 % 6]}-{isa}", "0.23.0")
        file = f"torchvision-1.{number}.0+{row.parsed.short.replace('-', '.')}-cp313-cp313-manylinux_2_28_x86_64.whl"
        rows.append(
            replace(
                row,
                version=f"1.{number}.0+x",
                torchvision=f"1.{number}.0",
                file=file,
                url=f"files/{file}",
                provenance=f"files/{file}.intoto.json",
                sbom=f"files/{file}.cdx.json",
                size=4_000_000 + int(digest[:4], 16),
                sha256=digest,
                metadata_sha256=sha256(digest.encode()).hexdigest(),
            )
        )
    return rows


def test_an_installer_reads_at_most_300_kb_of_an_index_of_2000_wheels(tmp_path: Path) -> None:
    rows = many(2000)
    text = catalogue.dump(rows, signed=False)
    packed = catalogue.pack(text)
    assert len(packed) <= 300_000
    (tmp_path / catalogue.PACKED).write_bytes(packed)
    assert catalogue.fetch(remote(str(tmp_path))) == rows
    (tmp_path / catalogue.PACKED).unlink()
    (tmp_path / catalogue.NAME).write_text(text)
    assert catalogue.fetch(remote(str(tmp_path))) == rows
