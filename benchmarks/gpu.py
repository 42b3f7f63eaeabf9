"""CUDA wheels on the GPU that is here: each verified, then timed beside the torchvision that the environment has.

    python benchmarks/gpu.py WHEEL... --python ENVIRONMENT [--beside WHEEL] [--upstream-tests] [--json FILE]

WHEELs are ours: each goes through `verify --device`, with upstream's CUDA tests where its cubins serve the GPU, and one
that the GPU cannot run must be refused. Those that hold are timed as `bench --device cuda --beside-installed` does, and
so is any --beside wheel of the same release, unverified (another compiler's build, say). All in one run on one GPU.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console

from build_torchvision.bench.comparison import arena, comparison, versions
from build_torchvision.bench.report import markdown, to_json
from build_torchvision.cli.tables import proof_table
from build_torchvision.cli.verify import present
from build_torchvision.errors import BuildTorchvisionError
from build_torchvision.verify.checks import Report
from build_torchvision.verify.gpu import choose, groups_of
from build_torchvision.verify.gpu_run import on
from build_torchvision.verify.package import Package, parse_file_name
from build_torchvision.verify.session import VerifyOptions, verify_all
from build_torchvision.verify.target import Place, existing

OUT, ERR = Console(width=180), Console(stderr=True, width=180)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheels", nargs="+", type=Path)
    parser.add_argument("--python", type=Path, required=True, help="an environment with torch and a torchvision")
    parser.add_argument("--beside", type=Path, action="append", default=[], help="a wheel that is timed only")
    parser.add_argument("--upstream-tests", action="store_true", help="run upstream's CUDA tests too")
    parser.add_argument("--source", type=Path, help="upstream's source, instead of the download")
    parser.add_argument("--seconds", type=float, default=1.0, help="for a case and wheel")
    parser.add_argument("--only", default="typical,large", help="cases whose name holds one of these words")
    parser.add_argument("--json", type=Path, help="write everything there")
    return parser.parse_args()


def main() -> int:
    asked = arguments()
    host, environment = present(), existing(asked.python)
    host.require("these wheels")
    proofs: list[Report] = []
    runnable: list[Path] = []
    held = True
    for wheel in asked.wheels:
        served = choose(groups_of(Package(wheel).extensions), host)
        options = VerifyOptions(
            upstream_tests=asked.upstream_tests and served is not None and served[1] != "ptx",
            python=asked.python,
            gpus=host,
            source=asked.source,
        )
        (proof,) = verify_all([(wheel, None)], options)
        proofs.append(proof)
        OUT.print(proof_table(proof))
        if served is None:
            OUT.print(f"{wheel.name}: no GPU here runs it, and it was {'REFUSED' if not proof.ok else 'ACCEPTED'}\n")
        held = held and proof.ok == (served is not None)
        runnable += [wheel] if served else []
    gpu = host.gpus[0]
    with arena([*runnable, *asked.beside], torch="", python=environment.python, installed=environment) as (
        python,
        contenders,
    ):
        timings = comparison(
            python,
            contenders,
            device="cuda",
            env=on(Place(python=python), gpu, jit=True).env,
            seconds=asked.seconds,
            only=asked.only.split(","),
            report=lambda key: ERR.print(key, highlight=False),
        )
        said = versions(python, contenders[0])
        about = {
            "torchvision": parse_file_name(asked.wheels[0].name).version.partition("+")[0],
            "stock": said["torchvision"],
            "torch": said["torch"],
            "machine": f"{gpu}, driver {host.driver}",
            "gpu": gpu.name,
        }
        result = to_json(timings, contenders, {}, about)
    OUT.print(markdown(result), markup=False, highlight=False, soft_wrap=True)
    if asked.json:
        everything = {"proofs": [proof.to_json() for proof in proofs], "bench": result}
        asked.json.write_text(json.dumps(everything, indent=1) + "\n")
    return 0 if held else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BuildTorchvisionError as error:
        sys.exit(f"{error.action}: {error.problem} {error.hint}")
