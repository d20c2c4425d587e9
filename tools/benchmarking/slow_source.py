"""A file behind a slow line: HTTP on this machine that answers late and sends little at a time."""

import http.server
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def slow_source(path: Path, *, latency_s: float, mb_per_s: float) -> Iterator[str]:
    """Serve a file while the context lasts; its URL.

    Args:
        path: The file.
        latency_s: Seconds before each answer.
        mb_per_s: Megabytes a second of each answer; several at once have as much each.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            content = self._answer()
            time.sleep(len(content) / (mb_per_s * 1e6))
            self.wfile.write(content)

        def _answer(self) -> bytes:
            """Send the head; the bytes that were asked for."""
            time.sleep(latency_s)
            size = path.stat().st_size
            if self.path != f"/{path.name}":  # GDAL looks for side files
                self._send(404, 0)
                return b""
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
            first, last = 0, size - 1
            if asked:
                first, last = int(asked[1]), min(int(asked[2] or size - 1), size - 1)
            span = {"Content-Range": f"bytes {first}-{last}/{size}"} if asked else {}
            self._send(206 if asked else 200, last - first + 1, span)
            with path.open("rb") as file:
                file.seek(first)
                return file.read(last - first + 1)

        def _send(self, status: int, length: int, more: dict[str, str] | None = None) -> None:
            self.send_response(status)
            head = {"Accept-Ranges": "bytes", "Content-Length": str(length), **(more or {})}
            for name, value in head.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/{path.name}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
