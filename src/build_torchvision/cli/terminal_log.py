"""Log to a terminal that may show what is being waited for."""

from __future__ import annotations

import logging

from rich.logging import RichHandler

from build_torchvision.progress import clear_line


class TerminalLog(RichHandler):
    """Writes messages above the line that shows what is being waited for."""

    def emit(self, record: logging.LogRecord) -> None:
        clear_line()
        super().emit(record)
