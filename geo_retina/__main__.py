"""The program `geo-retina`, also as `python -m geo_retina`."""

import io
import sys
from pathlib import Path

from geo_retina.cores import keep_to_usable_cores


def run() -> None:
    """Entry point of the program."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        # on Windows a pipe or a file takes few letters: a name with others is no reason to fail
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        Path.cwd()
    except FileNotFoundError:
        sys.stderr.write("error: the folder this runs in no longer exists; change to another one\n")
        sys.exit(2)
    keep_to_usable_cores()
    try:
        from geo_retina.cli.main import app  # here, so that Ctrl-C while it loads leaves one line

        app()  # which builds the commands first
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    run()
