"""A plain file server on the loopback address, and what it was asked for."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO


@dataclass
class Served:
    """`url` ends in a slash; `asked` are the paths that were requested, in order, `sent` the bytes of each answer."""

    url: str
    asked: list[str] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)


@contextmanager
def serve(folder: Path) -> Iterator[Served]:
    served = Served("")

    class Handler(SimpleHTTPRequestHandler):
        def copyfile(self, source: IO[bytes], outputfile: IO[bytes]) -> None:  # type: ignore[override]
            data = source.read()
            served.sent[self.path] += len(data)
            outputfile.write(data)

        def log_message(self, format: str, *arguments: object) -> None:
            served.asked.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    served.url = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
