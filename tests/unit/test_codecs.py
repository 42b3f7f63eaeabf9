"""The image libraries from pinned source, and the toolchain that links them: facts, downloads, graph and audit."""

from __future__ import annotations

import hashlib
import io
import itertools
import lzma
import re
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from _elf import Object
from test_audit import CODECS as LINKED
from test_audit import MEMCPY, OLD_STRING, TORCH, Wheel, failing, schemas
from test_cuda import ingredients

import build_torchvision
from build_torchvision.errors import BadInput, FetchFailed
from build_torchvision.facts import PLATFORMS, FactError, isas, lowest_isa
from build_torchvision.facts.codecs import (
    CodecLibrary,
    codec_libraries,
    libraries_for,
    read_codec_libraries,
    reported_advisories,
)
from build_torchvision.facts.toolchain import toolchain_packages
from build_torchvision.graph.actions import Action, ActionKind, Graph
from build_torchvision.graph.plan import RUNTIME_SUPPORT, plan_graph
from build_torchvision.inputs import resolve
from build_torchvision.inputs import toolchain as toolchains
from build_torchvision.inputs.codec_sources import CodecSource, write_headers
from build_torchvision.inputs.codecs import Codec, Codecs
from build_torchvision.inputs.compiler import Compiler
from build_torchvision.inputs.origins import OriginFailed, from_registry, from_url, pinned_file
from build_torchvision.inputs.resolve import BuildRequest, glibc_of
from build_torchvision.inputs.toolchain import Toolchain, unpack_deb
from build_torchvision.inputs.upstream import Extension
from build_torchvision.releases import release_named
from build_torchvision.spec import LibraryIdentity
from build_torchvision.variants import parse
from build_torchvision.verify.static import TorchFacts, audit_wheel
from build_torchvision.wheel.assemble import claimed_platform
from build_torchvision.wheel.licences import find_licences
from build_torchvision.wheel.sbom import sbom_text

# --- the tables -------------------------------------------------------------------------------------------------------


def test_each_codec_is_served_by_one_library_and_png_brings_zlib() -> None:
    assert sorted(row.codec for row in codec_libraries().values() if row.codec) == ["jpeg", "png", "webp"]
    assert [row.name for row in libraries_for(frozenset({"png"}))] == ["zlib-ng", "libpng"]
    assert [row.name for row in libraries_for(frozenset({"webp"}))] == ["libwebp"]


def test_a_platform_takes_what_all_have_and_its_own_and_no_others() -> None:
    zlib = codec_libraries()["zlib-ng"]
    paths = {name: {path for files in zlib.sets(name) for path in files.together} for name in PLATFORMS}
    assert "inflate.c" in paths["x86_64"] & paths["aarch64"]
    assert "arch/arm/crc32_armv8.c" in paths["aarch64"]
    assert not any("arch/x86" in path for path in paths["aarch64"])
    assert not any("arch/arm" in path for path in paths["x86_64"])


def test_every_isa_of_a_platform_contains_the_one_that_its_libraries_are_compiled_for() -> None:
    for isa in isas().values():
        assert set(lowest_isa(isa.platform).features) <= set(isa.features)


def test_no_pinned_library_has_a_known_vulnerability() -> None:
    assert reported_advisories() == [], "a newer version of each of these must be pinned"


def test_a_known_vulnerability_is_reported_with_its_library() -> None:
    planted = replace(codec_libraries()["libpng"], advisories=("CVE-2026-0001: a heap overflow",))
    assert reported_advisories([planted]) == ["libpng 1.6.58: CVE-2026-0001: a heap overflow"]


ROW = """
[zlib]
version = "1"
licence = "Zlib"
licence_files = ["LICENSE"]
purl = "pkg:github/a/b@1"
urls = ["https://example.org/1.tar.gz"]
sha256 = "{digest}"
evidence = "text"
prefixes = ["z_"]
source = "a test"
sources = ["a.c"]
""".replace("{digest}", "0" * 64)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda text: text.replace('licence = "Zlib"\n', ""), "`licence` is missing"),
        (lambda text: text + "colour = 3\n", "unknown field"),
        (lambda text: text + '[zlib.x86_64]\ncolour = "red"\n', "unknown field"),
        (lambda text: text.replace("0" * 64, "0" * 63), "`sha256` = .* does not look like"),
        (lambda text: text.replace('["a.c"]', '["a.c", "a.c"]'), "must be distinct"),
        (lambda text: text.replace('["a.c"]', '"a.c"'), "must be list"),
        (lambda text: text + 'uses = ["other"]\n', "no row above"),
        (lambda text: text.replace("urls", "unknown_urls", 1), "unknown field|where the source is"),
    ],
)
def test_a_malformed_row_names_its_table_and_field(change: Callable[[str], str], why: str) -> None:
    assert read_codec_libraries(ROW)["zlib"].version == "1"
    with pytest.raises(FactError, match=rf"codecs.toml \[zlib\].*({why})"):
        read_codec_libraries(change(ROW))


def test_a_package_of_the_toolchain_is_pinned_for_both_platforms() -> None:
    for row in toolchain_packages().values():
        assert row.digest("x86_64") != row.digest("aarch64")
        assert row.pool_path("aarch64").endswith("_arm64.deb")


# --- downloads --------------------------------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address of a server that serves it."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["zlib_ng-1.1.0.tar.gz", "zlib-ng-1.1.0.tar.gz"])
def test_a_source_distribution_is_fetched_from_the_address_that_the_index_lists_and_nothing_runs(
    name: str, served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = served
    (folder / "simple" / "zlib-ng").mkdir(parents=True)
    (folder / name).write_bytes(b"the archive, whose setup.py is not even unpacked")
    links = [f"../../{file}" for file in ("zlib_ng-1.0.0.tar.gz", "zlib_ng-1.1.0-cp313-cp313-linux_x86_64.whl", name)]
    page = "".join(f'<a href="{link}#sha256=0">x</a>' for link in links)
    (folder / "simple" / "zlib-ng" / "index.html").write_text(page)
    monkeypatch.setenv("PIP_INDEX_URL", f"{address}/simple/")
    assert from_registry("zlib-ng==1.1.0")(tmp_path / "part") == f"{address}/{name}"
    assert (tmp_path / "part").read_bytes() == (folder / name).read_bytes()
    with pytest.raises(OriginFailed, match=r"lists no source distribution of zlib-ng==1\.2"):
        from_registry("zlib-ng==1.2")(tmp_path / "other")
    with pytest.raises(OriginFailed, match="404"):
        from_registry("libdeflate==1.1.0")(tmp_path / "other")


def test_the_first_origin_with_the_right_bytes_is_taken(served: tuple[Path, str], tmp_path: Path) -> None:
    folder, address = served
    (folder / "wrong").write_bytes(b"tampered")
    (folder / "right").write_bytes(b"the archive")
    digest = hashlib.sha256(b"the archive").hexdigest()
    names = ("absent", "wrong", "right")
    origins = [(name, from_url(f"{address}/{name}")) for name in names]
    dest = tmp_path / "cache" / "archive"
    assert pinned_file(dest, digest, origins, action="Fetch it", hint="").read_bytes() == b"the archive"
    assert pinned_file(dest, digest, [], action="Fetch it", hint="") == dest, "it is in the cache now"


def test_a_file_that_no_origin_serves_is_an_error_with_each_answer(served: tuple[Path, str], tmp_path: Path) -> None:
    folder, address = served
    (folder / "wrong").write_bytes(b"tampered")

    def broken(part: Path) -> str:
        raise OriginFailed("no such package")

    origins = [("the host", from_url(f"{address}/wrong")), ("the mirror", broken)]
    with pytest.raises(FetchFailed, match=r"the host: .*8 bytes.*the mirror: no such package.*Try again") as caught:
        pinned_file(tmp_path / "cache" / "archive", "0" * 64, origins, action="Fetch it", hint="Try again.")
    assert caught.value.exit_code == 5
    assert not (tmp_path / "cache" / "archive").exists()


def test_a_machine_without_debians_archive_names_one_or_builds_with_its_own_headers(
    served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("BUILD_TORCHVISION_CACHE", str(tmp_path / "cache"))
    folder, address = served
    row = toolchain_packages()["libgcc"]
    file = folder / row.pool_path("x86_64")
    file.parent.mkdir(parents=True)
    file.write_bytes(b"libgcc")
    pinned = replace(row, sha256=dict.fromkeys(("amd64", "arm64"), hashlib.sha256(b"libgcc").hexdigest()))
    monkeypatch.setattr(toolchains, "from_mirror", lambda path, digest: no_mirror)
    monkeypatch.setenv(toolchains.MIRROR, address)
    assert toolchains._package(pinned, "x86_64").read_bytes() == b"libgcc"

    monkeypatch.delenv(toolchains.MIRROR)
    (toolchains.cache_dir() / "toolchain" / file.name).unlink()
    request = BuildRequest(variants=(parse("torchvision-python311-cpu-avx2"),), release=release_named("0.21.0"))
    asked: list[str] = []

    def find(choice: str, platform: str, prefix: str | None, glibc: str) -> str:
        asked.append(glibc)
        if glibc != "host":
            toolchains._package(pinned, platform)
        return glibc

    monkeypatch.setattr(resolve, "find_compiler", find)
    assert resolve._compiler(request, "x86_64") == "host"
    assert asked == ["2.28", "host"]
    assert f"Set {toolchains.MIRROR} to" in caplog.text, "what would have made it the pinned one"
    with pytest.raises(FetchFailed, match="no mirror"):
        resolve._compiler(replace(request, glibc="2.28"), "x86_64")
    with pytest.raises(FetchFailed, match="no mirror"):
        resolve._compiler(request, "aarch64")


def no_mirror(part: Path) -> str:
    raise OriginFailed("no mirror")


def deb(folder: Path, files: dict[str, bytes]) -> Path:
    """A Debian package with `files`, as deb(5) describes it."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    packed = lzma.compress(data.getvalue())
    text = b"!<arch>\n"
    for name, content in (("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), ("data.tar.xz", packed)):
        text += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode() + content
        text += b"\n" * (len(content) % 2)
    path = folder / "package.deb"
    path.write_bytes(text)
    return path


def test_only_what_is_kept_of_a_package_is_unpacked(tmp_path: Path) -> None:
    package = deb(tmp_path, {"./usr/include/a/x.h": b"x", "./usr/include/a/b/y.h": b"y", "./usr/include/ab.h": b"z"})
    unpack_deb(package, tmp_path / "tree", {"usr/include/a": "include"})
    unpacked = {str(path.relative_to(tmp_path / "tree")) for path in (tmp_path / "tree").rglob("*") if path.is_file()}
    assert unpacked == {"include/x.h", "include/b/y.h"}


def test_a_package_without_what_is_kept_or_none_at_all_is_refused(tmp_path: Path) -> None:
    package = deb(tmp_path, {"./usr/include/../../../evil": b"x"})
    with pytest.raises(BadInput, match="It has no usr/include"):
        unpack_deb(package, tmp_path / "tree", {"usr/include": "include"})
    assert not (tmp_path / "evil").exists()
    package.write_bytes(package.read_bytes()[:40])
    with pytest.raises(BadInput, match="no Debian package"):
        unpack_deb(package, tmp_path / "tree", {"usr/include": "include"})


def library(**changes: object) -> CodecLibrary:
    return replace(read_codec_libraries(ROW)["zlib"], **changes)  # type: ignore[arg-type]  # a test's own fields


def test_headers_are_written_and_a_placeholder_that_is_left_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "z.h.in").write_text("#define @PREFIX@z 1\n#cmakedefine HAVE_IT\n")
    whole = {"@PREFIX@": "", "#cmakedefine HAVE_IT": "#define HAVE_IT"}
    row = library(headers={"config.h": "#define A 1\n"}, templates={"z.h": "z.h.in"}, substitute=whole)
    write_headers(row, tmp_path, tmp_path / "made")
    assert (tmp_path / "made" / "config.h").read_text() == "#define A 1\n"
    assert (tmp_path / "made" / "z.h").read_text() == "#define z 1\n#define HAVE_IT\n"
    with pytest.raises(BadInput, match="cmakedefine HAVE_IT"):
        write_headers(replace(row, substitute={"@PREFIX@": ""}), tmp_path, tmp_path / "again")
    with pytest.raises(BadInput, match=r"no other\.h\.in"):
        write_headers(replace(row, templates={"z.h": "other.h.in"}), tmp_path, tmp_path / "third")
    with pytest.raises(BadInput, match="No template holds '@GONE@'"):
        write_headers(replace(row, substitute={**whole, "@GONE@": ""}), tmp_path, tmp_path / "fourth")


# --- options ----------------------------------------------------------------------------------------------------------


def request(variant: str = "torchvision-python313-cpu-avx2", **options: object) -> BuildRequest:
    return BuildRequest(variants=(parse(variant),), release=release_named("0.29.1"), **options)  # type: ignore[arg-type]


def test_a_wheel_is_built_for_the_pinned_glibc_unless_this_machines_parts_are_used() -> None:
    assert glibc_of(request()) == "2.28"
    assert glibc_of(request(glibc="2.34")) == "2.34"
    for options in ({"compiler": "gcc"}, {"cc_prefix": "/opt/arm-"}, {"codecs": "system"}, {"glibc": "host"}):
        assert glibc_of(request(**options)) == "host"
    assert glibc_of(request(cuda_compiler="nvcc")) == "2.28", "a CPU variant asks nothing of a CUDA compiler"
    assert glibc_of(request("torchvision-python313-cuda12_8-sm90-avx2", cuda_compiler="nvcc")) == "host"


@pytest.mark.parametrize(
    "options",
    [
        {"compiler": "gcc", "glibc": "2.28"},
        {"cc_prefix": "/opt/arm-", "glibc": "2.34"},
        {"codecs": "system", "glibc": "2.28"},
        {"codecs": "pinned", "glibc": "host"},
        {"codecs": "pinned", "compiler": "gcc"},
    ],
)
def test_options_that_exclude_each_other_are_refused_with_the_way_out(options: dict[str, object]) -> None:
    with pytest.raises(BadInput, match=r"--glibc|--codecs system"):
        glibc_of(request(**options))


# --- the graph --------------------------------------------------------------------------------------------------------


def toolchain() -> Toolchain:
    return Toolchain(
        root=Path("/chain"), platform="x86_64", glibc="2.28", zig=Path("/zig/zig"), resources=Path("/clang/22")
    )


def pinned_graph(*isa_names: str) -> Graph:
    """The graph of a release with an operator in `_C` and three codecs in `image`, for `isa_names`."""
    chain = toolchain()
    compiler = Compiler(
        family="clang",
        version="22.1.8",
        command=("clang++", *chain.cxx_flags),
        c_command=("clang", *chain.c_flags),
        linker=("clang++", *chain.link_flags),
        origin="registry",
        runtime=chain.runtime,
        toolchain=chain,
    )
    sources = tuple(
        CodecSource(library=row, root=Path("/codecs", row.name), generated=Path("/made", row.name))
        for row in codec_libraries().values()
    )
    found = {
        source.library.codec: Codec(name=source.library.codec, version="1", cflags=(f"-I{source.generated}",), libs=())
        for source in sources
        if source.library.codec
    }
    base = ingredients("cuda12_8-sm90-avx2")
    operators = Extension(
        name="torchvision._C", sources=("csrc/ops/cpu/nms.cpp",), macros=(), libraries=(), include_dirs=()
    )
    image = Extension(
        name="torchvision.image",
        sources=("csrc/io/image/image.cpp",),
        macros=(),
        libraries=("jpeg", "png", "webp"),
        include_dirs=(),
    )
    return plan_graph(
        replace(
            base,
            upstream=replace(base.upstream, extensions=(operators, image)),
            codecs=Codecs(found=found, sources=sources),
            compiler=compiler,
            isas={isa: (f"-march={isa}",) for isa in isa_names},
            device=None,
        )
    )


def of(graph: Graph, path: str) -> list[Action]:
    return [action for action in graph.actions if any(part.endswith(path) for part in action.inputs)]


def test_a_library_is_compiled_once_whatever_the_isas() -> None:
    one, two = pinned_graph("avx2"), pinned_graph("avx2", "avx512")
    graph = pinned_graph("avx512")
    compiled = [action for action in graph.actions if "/codecs/" in action.output]
    for other in (one, two):
        assert [action for action in other.actions if "/codecs/" in action.output] == compiled
    assert all("-march=x86-64-v3" in action.command for action in compiled if action.kind is ActionKind.COMPILE)
    assert [action.kind for action in of(graph, "jidctint-avx2.asm")] == [ActionKind.NASM]
    assert not of(graph, "jidctint-sse2.asm"), "every CPU has AVX2"
    assert len(of(graph, "png_paeth.c")) == 1
    assert not of(graph, "intel_init.c"), "which it replaces"
    outputs = [action.output for action in two.actions]
    assert len(outputs) == len(set(outputs))


def test_files_compiled_together_are_one_file_that_includes_them_in_order() -> None:
    graph = pinned_graph("avx2")
    (action,) = of(graph, "x86_64/codecs/libwebp/together.c")
    text = graph.files["x86_64/codecs/libwebp/together.c"]
    assert action.kind is ActionKind.COMPILE
    included = [line.split('"')[1] for line in text.splitlines()]
    assert included[0].endswith("/build_torchvision/codecs/webp_cpu.c"), "before all that ask for the CPU"
    assert "/codecs/libwebp/src/dsp/lossless_avx2.c" in included
    (written,) = of(graph, "/made/libjpeg-turbo/jchuff.c")
    assert "-Os" in written.command


def test_code_that_runs_once_a_call_is_kept_small_and_what_computes_is_not() -> None:
    graph = pinned_graph("avx2")
    (registrations,) = of(graph, "io/image/image.cpp")
    assert "-inline-threshold=25" in registrations.command
    assert not any("-inline-threshold=25" in action.command for action in of(graph, "cpu/nms.cpp"))
    assert not any("-inline-threshold=25" in action.command for action in of(graph, "/libpng/pngread.c"))


def test_a_source_of_our_own_is_named_alike_wherever_this_package_lies() -> None:
    graph = pinned_graph("avx2")
    operators = Path(build_torchvision.__file__).parent / "operators"
    read = [action for action in graph.actions if action.kind in (ActionKind.COMPILE, ActionKind.FRONTEND)]
    ours = [action for action in read if any("/csrc/" in path for path in action.inputs)]
    assert all(f"-ffile-prefix-map={operators}=operators" in action.command for action in ours)
    assert ours


def _included(text: str) -> list[str]:
    return re.findall(r'#include "(.+)"', text)


def test_each_source_of_our_own_is_there_and_compiled() -> None:
    folder = Path(build_torchvision.__file__).parent / "codecs"
    named = {
        name
        for row in codec_libraries().values()
        for files in (row.common, *row.platforms.values())
        for path in (*files.sources, *files.together, *files.cold)
        for name in [path.removeprefix("own/")]
        if name != path
    }
    assert named == {path.name for path in folder.glob("*.c")}
    headers = {name for row in codec_libraries().values() for text in row.headers.values() for name in _included(text)}
    assert {path.name for path in folder.glob("*.h")} <= headers


def test_libraries_are_hidden_and_linked_into_the_extension_that_needs_them_alone() -> None:
    graph = pinned_graph("avx2")
    compiled = [action for action in graph.actions if "/codecs/" in action.output and action.kind is ActionKind.COMPILE]
    assert len(compiled) > 70
    assert all("-fvisibility=hidden" in action.command for action in compiled)
    links = {action.output.rpartition("/")[2]: action for action in graph.actions if action.kind is ActionKind.LINK}
    assert not any("/codecs/" in path for path in links["_C.so"].inputs)
    assert {action.output for action in compiled} <= set(links["image.so"].inputs)
    (support,) = of(graph, RUNTIME_SUPPORT)
    for link in links.values():
        assert support.output in link.inputs
        assert link.command[-len(toolchain().runtime) :] == toolchain().runtime, "the runtime libraries come last"


def test_what_libc_itself_holds_from_glibc_2_34_on_is_not_linked_beside_it() -> None:
    assert {"-lpthread", "-ldl"} < set(toolchain().runtime)
    newer = replace(toolchain(), glibc="2.34").runtime
    assert set(toolchain().runtime) - set(newer) == {"-lpthread", "-ldl"}


def test_the_pinned_compiler_reads_no_header_of_the_machine() -> None:
    flags = toolchain().cxx_flags
    assert "-nostdinc" in flags
    assert "-D__GLIBC_MINOR__=28" in flags
    folders = [folder for flag, folder in itertools.pairwise(flags) if flag == "-idirafter"]
    assert folders.index("/chain/include/c++") < folders.index("/clang/22/include") < len(folders)
    assert all(folder.startswith(("/chain/", "/clang/", "/zig/")) for folder in folders)


# --- the wheel --------------------------------------------------------------------------------------------------------


def test_licences_come_from_the_source_and_a_missing_one_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "LICENSE").write_text("zlib's terms")
    monkeypatch.setenv("PATH", str(tmp_path / "no-dpkg"))
    sources = [CodecSource(library=library(), root=source, generated=source)]
    toolkit = {"libnvjpeg": tmp_path / "EULA.txt"}
    toolkit["libnvjpeg"].write_text("NVIDIA's terms")
    bundled = ["libodd-01234567.so.1", "libnvjpeg-01234567.so.13"]
    assert find_licences(bundled, sources, toolkit=toolkit) == {
        "zlib/LICENSE": source / "LICENSE",
        "nvidia-cuda-toolkit/License.txt": toolkit["libnvjpeg"],
    }
    assert "libodd" in caplog.text


def test_the_bill_of_materials_inside_a_wheel_names_each_library_and_is_the_same_each_time() -> None:
    rows = [
        LibraryIdentity(name=row.name, version=row.version, licence=row.licence, sha256=row.sha256, purl=row.purl)
        for row in codec_libraries().values()
    ]
    text = sbom_text("0.21.0+cpu.avx2", rows)
    assert text == sbom_text("0.21.0+cpu.avx2", rows)
    for row in rows:
        assert row.purl in text
        assert row.sha256 in text


@pytest.mark.parametrize(
    ("glibc", "tag", "claimed"),
    [
        ("2.28", "manylinux_2_24_aarch64", "manylinux_2_28_aarch64"),
        ("2.28", "manylinux2014_x86_64.manylinux_2_17_x86_64", "manylinux_2_28_x86_64"),
        ("2.34", "manylinux_2_28_x86_64", "manylinux_2_34_x86_64"),
        ("2.28", "manylinux_2_39_x86_64", "manylinux_2_39_x86_64"),
        (None, "manylinux_2_24_x86_64", "manylinux_2_24_x86_64"),
        ("2.28", "linux_x86_64", "linux_x86_64"),
    ],
)
def test_a_wheel_claims_the_glibc_it_was_linked_for_and_never_less_than_it_needs(
    glibc: str | None, tag: str, claimed: str
) -> None:
    assert claimed_platform(tag, glibc) == claimed


# --- the audit --------------------------------------------------------------------------------------------------------


def static_wheel() -> Wheel:
    """A wheel whose image libraries are linked in."""
    wheel = Wheel()
    wheel.bundled = {}
    texts = b"".join(row.evidence.encode() + b"\0" for row in codec_libraries().values())
    wheel.image = Object(
        rodata=schemas("image") + texts,
        needed=[*TORCH, "libc.so.6"],
        undefined={OLD_STRING: None, "memcpy": MEMCPY},
    )
    wheel.descriptor["codecs"] = [{**codec, "origin": "pinned"} for codec in wheel.descriptor["codecs"]]
    wheel.descriptor["libraries"] = [
        {field: getattr(row, field) for field in ("name", "version", "licence", "sha256", "purl")}
        for row in codec_libraries().values()
    ]

    def licences(files: dict[str, bytes]) -> None:
        for row in codec_libraries().values():
            files[f"torchvision-{wheel.version}.dist-info/licenses/{row.name}/LICENSE"] = b"terms"

    wheel.tamper = licences
    return wheel


@pytest.fixture(scope="module")
def torch(tmp_path_factory: pytest.TempPathFactory) -> TorchFacts:
    folder = tmp_path_factory.mktemp("torch")
    for name in TORCH:
        (folder / name).write_bytes(Object(soname=name, defined=[OLD_STRING]).build())
    return TorchFacts(version="2.6.0", cuda=None, cxx11_abi=False, lib_dir=folder)


def problems(wheel: Wheel, folder: Path, torch: TorchFacts) -> dict[str, str]:
    found = failing(audit_wheel(wheel.write(folder), torch=torch))
    found.pop("RECORD", None)  # the licences came after it
    return found


def test_a_wheel_with_its_libraries_linked_in_holds(tmp_path: Path, torch: TorchFacts) -> None:
    assert problems(static_wheel(), tmp_path, torch) == {}


@pytest.mark.parametrize(
    ("change", "check", "why"),
    [
        (lambda w: setattr(w.image, "defined", ["jpeg_start_decompress"]), "exported codec symbols", "jpeg_start"),
        (lambda w: setattr(w.main, "defined", ["inflateInit2_"]), "exported codec symbols", "inflateInit2_"),
        (lambda w: setattr(w.image, "needed", [*w.image.needed, LINKED["png"]]), "codecs", "needs libpng"),
        (
            lambda w: setattr(w.image, "rodata", w.image.rodata.replace(b"Not a PNG file", b"")),
            "codecs",
            "does not hold libpng",
        ),
        (lambda w: w.descriptor["codecs"].pop(0), "codecs", "holds libjpeg-turbo"),
        (lambda w: w.descriptor.update(libraries=[]), "codecs", "does not say which libpng"),
        (lambda w: setattr(w, "tamper", lambda files: None), "codecs", "licence is not in the wheel"),
    ],
)
def test_a_planted_fault_of_a_linked_library_is_found(
    change: Callable[[Wheel], object], check: str, why: str, tmp_path: Path, torch: TorchFacts
) -> None:
    wheel = static_wheel()
    change(wheel)
    found = problems(wheel, tmp_path, torch)
    assert why in found[check]
