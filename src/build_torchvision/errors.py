"""One exception family. Every error says what was being done, the problem, and what to do next.

Exit codes: 0 all held, 1 a check failed, 2 bad input, 3 an input is missing, 4 a process failed, 5 the network failed,
6 a file could not be written.
"""

from __future__ import annotations


class BuildTorchvisionError(Exception):
    """Base of all errors that a user can cause or fix.

    `action`, `problem` and `hint` are one sentence each; `exit_code` is the status the command line ends with.
    """

    exit_code = 1

    def __init__(self, action: str, problem: str, hint: str) -> None:
        super().__init__(f"{action}: {problem} {hint}")
        self.action, self.problem, self.hint = action, problem, hint


class VerificationFailed(BuildTorchvisionError):
    """A package is not what its name says."""

    exit_code = 1


class BadInput(BuildTorchvisionError):
    """A name, option or file that cannot be used as given."""

    exit_code = 2


class MissingInput(BuildTorchvisionError):
    """A tool, header or library that a build needs is not on this machine."""

    exit_code = 3


class ProcessFailed(BuildTorchvisionError):
    """An external command ended with a status other than zero."""

    exit_code = 4


class FetchFailed(BuildTorchvisionError):
    """Nothing that could have served a download did."""

    exit_code = 5


class CannotWrite(BuildTorchvisionError):
    """An output or cache folder could not be written: a full disk, a read-only or foreign folder."""

    exit_code = 6
