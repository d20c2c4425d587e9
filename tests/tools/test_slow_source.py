import sys
import time
import urllib.request
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "tools"))

from benchmarking.slow_source import slow_source


def test_ranges_come_late(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(range(256)) * 40)
    with slow_source(path, latency_s=0.05, mb_per_s=1) as url:
        asked = urllib.request.Request(url, headers={"Range": "bytes=10-19"})  # noqa: S310
        started = time.monotonic()
        with urllib.request.urlopen(asked) as answer:  # noqa: S310
            assert answer.status == 206
            assert answer.headers["Content-Range"] == "bytes 10-19/10240"
            assert answer.read() == bytes(range(10, 20))
        assert time.monotonic() - started >= 0.05
        with urllib.request.urlopen(url) as answer:  # noqa: S310
            assert answer.read() == path.read_bytes()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{url}.aux.xml")  # noqa: S310
