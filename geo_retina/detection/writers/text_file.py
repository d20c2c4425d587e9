"""What all formats of text have in common: a file with an end of its own."""

from pathlib import Path


class TextFile:
    """A text file that is written as a stream."""

    def __init__(self, path: Path, *, head: str = "", tail: str = "") -> None:
        """Begin the file.

        Args:
            path: Where it is written.
            head: What stands before the first detection.
            tail: What stands after the last one.
        """
        self._tail = tail
        self._file = path.open("w", encoding="utf-8", newline="\n")
        self._file.write(head)

    def close(self) -> None:
        """End the file."""
        self._file.write(self._tail)
        self._file.close()

    def abandon(self) -> None:
        """Let go of the file."""
        self._file.close()
