"""Run a release's own setup.py against a stand-in torch and print what it would build, as JSON.

Executed as a script, in the release's root, by `inputs.upstream`; it imports nothing of ours and never the real torch.
Writes that setup.py makes (torchvision/version.py) are captured, not carried out, so the source tree stays as it is.
"""

from __future__ import annotations

import builtins
import io
import json
import os
import sys
import types
from pathlib import Path
from typing import Any

root = Path.cwd()
request = json.loads(sys.argv[1])
written: dict[str, io.StringIO] = {}
extensions: list[dict[str, Any]] = []
metadata: dict[str, Any] = {}


def module(name: str, **attributes: Any) -> types.ModuleType:
    made = types.ModuleType(name)
    made.__dict__.update(attributes)
    sys.modules[name] = made
    return made


def extension(name: str, sources: list[Any], **options: Any) -> str:
    # As torch.utils.cpp_extension reads them: a list is for every compiler, a dict has one list for each.
    arguments = options.get("extra_compile_args") or ()
    by_compiler = arguments if isinstance(arguments, dict) else {"cxx": arguments, "nvcc": arguments}
    extensions.append(
        {
            "name": name,
            "sources": [str(Path(source).absolute().relative_to(root)) for source in sources],
            "macros": [list(macro) for macro in options.get("define_macros") or ()],
            "undefined": list(options.get("undef_macros") or ()),
            "cxx_flags": list(by_compiler.get("cxx") or ()),
            "nvcc_flags": list(by_compiler.get("nvcc") or ()),
            "link_flags": list(options.get("extra_link_args") or ()),
            "libraries": list(options.get("libraries") or ()),
            "include_dirs": [
                str(Path(folder).relative_to(root))
                for folder in options.get("include_dirs") or ()
                if folder and root in [Path(folder), *Path(folder).parents]
            ],
        }
    )
    return name


class BuildExtension:
    @classmethod
    def with_options(cls, **_: Any) -> type[BuildExtension]:
        return cls


class DistributionNotFound(Exception):
    pass


def get_distribution(name: str) -> None:
    raise DistributionNotFound(name)


def capture(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
    if "w" in mode and isinstance(file, str | os.PathLike):
        kept = written.setdefault(str(Path(file).absolute().relative_to(root)), io.StringIO())
        kept.close = lambda: None  # type: ignore[method-assign]  # the text is read after setup.py closes its file
        return kept
    return real_open(file, mode, *args, **kwargs)


cuda_home = request["cuda_home"]
cpp_extension = module(
    "torch.utils.cpp_extension",
    BuildExtension=BuildExtension,
    CppExtension=extension,
    CUDAExtension=extension,
    CUDA_HOME=cuda_home,
    ROCM_HOME=None,
    IS_HIP_EXTENSION=False,
)
unavailable = types.SimpleNamespace(is_available=lambda: False)
module(
    "torch",
    __version__=request["torch"],
    version=types.SimpleNamespace(hip=None, cuda=request["cuda"]),
    cuda=unavailable,
    backends=types.SimpleNamespace(mps=unavailable),
    utils=module("torch.utils", cpp_extension=cpp_extension),
)

import packaging.version  # noqa: E402
import setuptools  # noqa: E402

module(
    "pkg_resources",
    DistributionNotFound=DistributionNotFound,
    get_distribution=get_distribution,
    parse_version=packaging.version.parse,
)
setuptools.setup = metadata.update

real_open = builtins.open
builtins.open = io.open = capture  # pathlib opens through io
sys.argv = ["setup.py", "bdist_wheel"]
sys.path.insert(0, str(root))
real_stdout, sys.stdout = sys.stdout, sys.stderr
code = compile((root / "setup.py").read_text(encoding="utf-8"), str(root / "setup.py"), "exec")
exec(code, {"__name__": "__main__", "__file__": str(root / "setup.py")})
builtins.open = io.open = real_open
sys.stdout = real_stdout

plain = ("name", "version", "author", "author_email", "url", "description", "license", "python_requires")
print(
    json.dumps(
        {
            "extensions": extensions,
            "written": {path: text.getvalue() for path, text in written.items()},
            "metadata": {key: str(metadata[key]) for key in plain if metadata.get(key)},
            "long_description": metadata.get("long_description", ""),
            "requires": list(metadata.get("install_requires", ())),
            "extras": {key: list(value) for key, value in metadata.get("extras_require", {}).items()},
            "packages": list(metadata.get("packages", ())),
            "package_data": metadata.get("package_data", {}),
        }
    )
)
