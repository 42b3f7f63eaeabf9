"""The one door to external processes."""

from __future__ import annotations

import logging
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from build_torchvision.errors import MissingInput, ProcessFailed

log = logging.getLogger(__name__)
TAIL_LINES = 25


def run(
    command: Sequence[str | Path],
    *,
    action: str,
    hint: str = "Run the command by hand to see more.",
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    check: bool = True,
    timeout: float | None = None,
    ok_codes: Sequence[int] = (0,),
) -> subprocess.CompletedProcess[str]:
    """Run `command`, log it, capture its output (text).

    `action` and `hint` complete the error. `timeout` is in seconds. Raises MissingInput when the program does not
    exist, ProcessFailed (naming command, exit code and last lines) when it fails and `check` holds.
    """
    argv = [str(part) for part in command]
    line = shlex.join(argv)
    log.debug("run: %s", line)
    try:
        done = subprocess.run(
            argv, cwd=cwd, env=env, capture_output=True, text=True, errors="replace", timeout=timeout, check=False
        )
    except FileNotFoundError as error:
        raise MissingInput(action, f"{argv[0]} is not on this machine.", f"Install {Path(argv[0]).name}.") from error
    except subprocess.TimeoutExpired as error:
        raise ProcessFailed(action, f"`{line}` took more than {timeout} s.", hint) from error
    if check and done.returncode not in ok_codes:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-TAIL_LINES:])
        raise ProcessFailed(action, f"`{line}` ended with exit code {done.returncode}:\n{tail}\n", hint)
    return done
