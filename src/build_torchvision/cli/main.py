"""Build TorchVision wheels for one CPU instruction set and one GPU architecture, and verify what they contain.

Results go to standard output, everything else to standard error.
"""

from __future__ import annotations

import sys
from typing import NoReturn

from cyclopts import App

from build_torchvision import __version__
from build_torchvision.cli.bench import bench
from build_torchvision.cli.build import build, plan
from build_torchvision.cli.cache import cache
from build_torchvision.cli.detect import detect
from build_torchvision.cli.doctor import doctor
from build_torchvision.cli.index import index
from build_torchvision.cli.install import install
from build_torchvision.cli.matrix import show, variants
from build_torchvision.cli.options import ERR
from build_torchvision.cli.prepare import prepare
from build_torchvision.cli.recipes import recipes
from build_torchvision.cli.verify import verify
from build_torchvision.errors import BuildTorchvisionError
from build_torchvision.writing import cannot_write

EPILOGUE = """Exit codes: 0 all held, 1 a check failed, a generated file drifted or doctor found a fault, 2 bad input,
3 an input is missing, 4 a process failed, 5 the network failed, 6 a file could not be written, 130 interrupted.

Examples:

    build-torchvision variants 'cpu-*'
    build-torchvision show torchvision-python313-cuda12_8-sm121-armv9
    build-torchvision detect
    build-torchvision build --auto
    build-torchvision verify dist/*.whl
    build-torchvision doctor --python .venv
"""
app = App(name="build-torchvision", version=__version__, help=__doc__, help_epilogue=EPILOGUE)
app.register_install_completion_command()
for command in (variants, show, detect, plan, prepare, build, verify, bench, index, install, doctor, recipes, cache):
    app.command(command)


def main() -> None:
    """Run the command line; every error of ours becomes three sentences and its exit code."""
    try:
        app()
    except BuildTorchvisionError as error:
        _report(error)
    except OSError as error:
        found = cannot_write(error, "Write a file")
        if found is None:
            raise
        _report(found)
    except KeyboardInterrupt:
        ERR.print("interrupted: what is finished is kept, and the same command goes on from there")
        sys.exit(130)


def _report(error: BuildTorchvisionError) -> NoReturn:
    ERR.print(f"[bold red]error[/] {type(error).__name__}")
    for text in (f"action:  {error.action}", f"problem: {error.problem}", f"hint:    {error.hint}"):
        ERR.print(text, markup=False, highlight=False, soft_wrap=True)
    sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
