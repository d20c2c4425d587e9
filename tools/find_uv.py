"""Where uv is, which makes environments and fetches packages."""

import shutil
from pathlib import Path

_OF_MAKE = Path(__file__).parents[1] / "build" / "uv" / "bin"
"""Where `make env` puts it if the PATH has none; the environment that it makes has no pip."""


def find_uv() -> str | None:
    """The program uv, or None where there is none."""
    return shutil.which("uv") or shutil.which("uv", path=_OF_MAKE)
