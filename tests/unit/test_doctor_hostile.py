"""Environments that somebody damaged: doctor and detect answer in words, never with a traceback."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from _environments import Site
from _machines import record, sources

from build_torchvision.cli import detect as detect_command
from build_torchvision.cli.main import main
from build_torchvision.doctor import report as doctor_report

SAMPLE, ALL = 120, 10_000
NOBODY = 65534
"""The user that owns nothing."""
TEXTS = (
    "",
    "\0" * 64,
    "Version",
    "Version: \nRequires-Dist: torch==\n",
    "Version: 1!2.0.post3.dev4+a.b_c\nRequires-Dist: torch (==1.0)\nRequires-Dist: torch @ file:///x\n",
    f"Version: {'9' * 5000}.0\nRequires-Dist: torch=={'9' * 5000}\n",
    "Version: 2.8.0+cu128\nRequires-Dist: torch; python_version < '3' and (" + "(" * 400 + "\n",
    "__version__ = '2.8.0+cu999999'\ncuda = '999999.1'\n",
    "__version__ = 5\ncuda = ['12.8']\nhip = {}\n",
    "cuda = '12.8'\n__version__ = '2.8.0+rocm'\n",
    "x = " + "(" * 5000,
    "[" * 5000,
    '{"variant": ["x"], "torch": 5, "torch_cuda": {}, "gencode": null}',
    '{"variant": "torchvision-python999-cuda99_9-sm1-x", "torch": "2.8.0"}',
    '{"url": "file://[::1", "dir_info": {"editable": true}}',
    '{"url": "file:///", "dir_info": {"editable": true}}',
    "home = \nversion = x.y\ninclude-system-site-packages = true\n",
    "home = /\nversion = 999999999999.1\ninclude-system-site-packages = TRUE\n",
    "import os\n/\n../../..\n.\n\0\n" + "a" * 5000 + "\n",
    'torchvision/_C.so,,\n"unclosed,,\n../../../etc/passwd,,\n',
    "\udc80\x1b[31m\r\n\x07",
)


class Mutator:
    """Damages an environment in one of many ways, by the numbers of `random`."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.random = root, random.Random(seed)
        self.ways: list[Callable[[Path], object]] = [
            self.truncate,
            self.flip,
            self.rewrite,
            self.rewrite,
            self.to_folder,
            self.to_link,
            self.to_loop,
            self.to_pipe,
            self.remove,
            self.forbid,
            self.empty_folder,
            self.strange_name,
            self.double,
            self.grow,
        ]

    def apply(self) -> None:
        for _ in range(self.random.randint(1, 3)):
            files = (path for path in sorted(self.root.rglob("*")) if path.is_file() and not path.is_symlink())
            paths = [path for path in files if path.stat().st_size < 1 << 20]  # a hole is not read here
            if paths:
                with contextlib.suppress(OSError):
                    self.random.choice(self.ways)(self.random.choice(paths))

    def truncate(self, path: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data[: self.random.randint(0, len(data))])

    def flip(self, path: Path) -> None:
        data = bytearray(path.read_bytes())
        for _ in range(self.random.randint(1, 40)):
            if data:
                where = self.random.choice((64, 512, len(data), len(data)))
                data[self.random.randrange(min(where, len(data)))] = self.random.randrange(256)
        path.write_bytes(bytes(data))

    def rewrite(self, path: Path) -> None:
        path.write_bytes(self.random.choice(TEXTS).encode("utf-8", "surrogateescape"))

    def to_folder(self, path: Path) -> None:
        path.unlink()
        path.mkdir()

    def to_link(self, path: Path) -> None:
        path.unlink()
        path.symlink_to(self.random.choice(("/nowhere/at/all", "/", "/proc/self/mem", "/dev/zero", "..")))

    def to_loop(self, path: Path) -> None:
        path.unlink()
        path.symlink_to(path.name)

    def to_pipe(self, path: Path) -> None:
        path.unlink()
        os.mkfifo(path)

    def remove(self, path: Path) -> None:
        path.unlink()

    def forbid(self, path: Path) -> None:
        self.random.choice((path, path.parent)).chmod(0)

    def empty_folder(self, path: Path) -> None:
        shutil.rmtree(path.parent)
        path.parent.mkdir()

    def strange_name(self, path: Path) -> None:
        name = self.random.choice(
            (b"torchvision-\xff\xfe.dist-info", b"torch-.egg-info", b"\x1b[2J.pth", b"torchvision-1.egg-link")
        )
        target = Path(os.fsdecode(os.fsencode(path.parent) + b"/" + name))
        path.rename(target)

    def double(self, path: Path) -> None:
        folder = path.parent
        for _ in range(self.random.randint(1, 30)):
            folder = folder / "torch"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / path.name)

    def grow(self, path: Path) -> None:
        with path.open("r+b") as stream:
            stream.truncate(self.random.choice((1 << 20, 1 << 33, 1 << 40)))  # a hole: it takes no space


def environment_of(seed: int, root: Path) -> Path:
    site = Site(
        requires=("numpy", "pillow>=5"), descriptor={"variant": "torchvision-python312-cpu-avx2", "torch": "2.8.0"}
    )
    if seed % 2:
        site.with_cuda("2.8.0+cu128", "12.8", "sm80", "sm90")
    site.write(root)
    packages = root / "lib" / "python3.12" / "site-packages"
    (packages / "easy-install.pth").write_text("./x.egg\n", encoding="utf-8")
    direct = '{"url": "file:///gone", "dir_info": {"editable": true}}'
    if seed % 3 == 0:
        (packages / "torchvision-0.23.0.dist-info" / "direct_url.json").write_text(direct, encoding="utf-8")
    for name, text in (
        ("share/cmake/Torch/TorchConfig.cmake", 'set(TORCH_CXX_FLAGS "-D_GLIBCXX_USE_CXX11_ABI=1")'),
        ("utils/cpp_extension.py", "flags = ['-std=c++17']"),
        ("include/ATen/ATen.h", "#if __cplusplus < 201703L"),
    ):
        (packages / "torch" / name).parent.mkdir(parents=True)
        (packages / "torch" / name).write_text(text, encoding="utf-8")
    return root


@contextlib.contextmanager
def without_privileges() -> Iterator[None]:
    """As another user where this is root, who may read whatever is forbidden."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def run(*arguments: str) -> tuple[int, str]:
    """(exit code, standard output) of a command."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()):
        try:
            main(arguments)
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
    return code, out.getvalue()


def answer(root: Path, as_json: bool) -> tuple[int, int]:
    """Exit codes of doctor and detect for the environment `root`; what they print is held to what the code means."""
    options = ("--python", str(root), *(["--json"] if as_json else []))
    ended = []
    for command in ("doctor", "detect"):
        code, text = run(command, *options)
        if code == 2:  # it is no environment any more, and standard error says so
            assert text == ""
        elif as_json:
            found = json.loads(text)
            assert command != "doctor" or found["healthy"] is (code == 0)
        else:
            assert "Python" in text
        ended.append(code)
    return ended[0], ended[1]


def check(seeds: range, monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[int, int]]:
    """How often each pair of exit codes came. The folder is one that another user may enter."""
    codes: Counter[tuple[int, int]] = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        monkeypatch.chdir(folder)
        for seed in seeds:
            root = folder / "env"
            environment_of(seed, root)
            Mutator(root, seed).apply()
            machine = sources(record(("haswell", "h100", "dgx-spark")[seed % 3]))
            for module in (detect_command, doctor_report):
                monkeypatch.setattr(module, "this_machine", lambda machine=machine: machine)
            try:
                with without_privileges():
                    codes[answer(root, as_json=seed % 4 < 2)] += 1
            except Exception as error:
                raise AssertionError(f"seed {seed}") from error
            for path in (root, *root.rglob("*")):
                if path.is_dir() and not path.is_symlink():
                    path.chmod(0o755)  # else nobody but root could delete what is in it
            shutil.rmtree(root)
    return codes


def test_a_sample_of_damaged_environments_is_answered_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = check(range(SAMPLE), monkeypatch)
    assert {doctor for doctor, _ in codes} <= {0, 1, 2}
    assert {detect for _, detect in codes} <= {0, 2}
    assert codes[0, 0]
    assert codes[1, 0]


@pytest.mark.nightly
def test_ten_thousand_damaged_environments_are_answered_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = check(range(SAMPLE, ALL), monkeypatch)
    print(dict(codes))
    assert {*codes} <= {(0, 0), (1, 0), (2, 2)}


@pytest.mark.parametrize("command", ["doctor", "detect"])
@pytest.mark.parametrize(
    "named",
    ["", "~nobody-of-that-name/env", "a" * 5000, os.devnull, "/etc/passwd", "/proc/self/mem", "\udcff\udcfe", "3.99"],
)
def test_what_is_no_environment_is_bad_input(
    command: str, named: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main([command, "--python", named])
    assert ended.value.code == 2
    assert "hint:" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["doctor", "detect"])
def test_a_working_folder_that_was_removed_does_not_matter(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Site().write(tmp_path / "env")
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    code, text = run(command, "--python", str(root))
    assert code in (0, 1)
    assert "torchvision" in text
