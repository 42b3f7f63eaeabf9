"""Run external commands: log each, and turn a failure into an error that names it."""

from __future__ import annotations

import errno
import logging
import shlex
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
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

    `action` and `hint` complete the error. `timeout` is in seconds. Raises MissingInput when the program or the folder
    `cwd` does not exist or the program cannot be executed, ProcessFailed (naming command, exit code and last lines)
    when it fails and `check` holds.
    """
    argv = [str(part) for part in command]
    line = shlex.join(argv)
    log.debug("run: %s", line)
    try:
        done = subprocess.run(
            argv, cwd=cwd, env=env, capture_output=True, text=True, errors="replace", timeout=timeout, check=False
        )
    except OSError as error:
        raise not_started(error, argv, action=action, cwd=cwd) from error
    except subprocess.TimeoutExpired as error:
        raise ProcessFailed(action, f"`{line}` took more than {timeout} s.", hint) from error
    if check and done.returncode not in ok_codes:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-TAIL_LINES:])
        raise ProcessFailed(action, f"`{line}` ended with exit code {done.returncode}:\n{tail}\n", hint)
    return done


def stream(
    command: Sequence[str | Path],
    on_line: Callable[[str], None],
    *,
    action: str,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> int:
    """Run `command`, log it, hand each line of its output (both streams) to `on_line`; returns its exit code.

    Bytes that are no text are replaced. Ctrl-C is passed on to the command, whose end is waited for, and raised again.
    Raises MissingInput as `run` does.
    """
    argv = [str(part) for part in command]
    log.debug("run: %s", shlex.join(argv))
    try:
        process = subprocess.Popen(
            argv, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
    except OSError as error:
        raise not_started(error, argv, action=action, cwd=cwd) from error
    with process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                on_line(line.rstrip("\n"))
            return process.wait()
        except BaseException:
            process.send_signal(signal.SIGINT)
            process.wait()
            raise


def not_started(error: OSError, argv: Sequence[str], *, action: str, cwd: Path | None = None) -> MissingInput:
    """The error for a command that the system did not start: which of program, folder and permission is the reason."""
    program = argv[0]
    if cwd is not None and not cwd.is_dir():
        return MissingInput(action, f"The folder {cwd}, in which {program} was to run, is not there.", "Create it.")
    if error.errno == errno.ENOEXEC:
        hint = f"Install a {Path(program).name} for this machine; `file {shlex.quote(program)}` says what this one is."
        return MissingInput(action, f"{program} is no program that this machine can execute ({error.strerror}).", hint)
    if isinstance(error, PermissionError):
        return MissingInput(
            action,
            f"{program} may not be executed ({error.strerror}).",
            f"Check its permissions, and that its file system is not mounted noexec: `ls -l {shlex.quote(program)}`.",
        )
    if isinstance(error, FileNotFoundError):
        return MissingInput(action, f"{program} is not on this machine.", f"Install {Path(program).name}.")
    return MissingInput(
        action, f"{program} could not be started ({error}).", "Free memory or processes, and try again."
    )
