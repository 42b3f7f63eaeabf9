"""`python -m build_torchvision.verify VARIANT FOLDER`: audit an installed tree and print the report, as JSON.

For a build farm, which has the source and the few libraries that reading ELF files takes: see nix/verify.nix.
Ends with exit code 1 if a check does not hold.
"""

from __future__ import annotations

import sys
from pathlib import Path

from build_torchvision.errors import VerificationFailed
from build_torchvision.variants import parse
from build_torchvision.verify.installed import InstalledTree
from build_torchvision.verify.static import audit_tree


def main(name: str, folder: str) -> int:
    """Print the report of `folder` as the variant `name`; 0 if it holds."""
    report = audit_tree(InstalledTree(Path(folder)), parse(name))
    print(report.dumps(), end="")
    for check in report.failed:
        print(f"{check.name}: {check.detail}", file=sys.stderr)
    return 0 if report.ok else VerificationFailed.exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
