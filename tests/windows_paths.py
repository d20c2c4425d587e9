"""Paths as Windows has them, for tests on other systems."""

from pathlib import PureWindowsPath
from typing import Self


class WindowsPath(PureWindowsPath):
    """A path without a file system behind it: it is whole, and nothing is there."""

    def absolute(self) -> Self:
        return self

    def exists(self) -> bool:
        return False

    def is_dir(self) -> bool:
        return False
