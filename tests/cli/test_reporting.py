import errno
import logging

import pytest
import typer

from geo_retina.cli.reporting import FAILURE, exit_codes
from geo_retina.errors import RasterError


def test_a_full_disk_is_one_line_wherever_it_is_met(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, exit_codes(quiet=True):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert ended.value.exit_code == FAILURE
    assert capsys.readouterr().err == (
        f"error: [Errno {errno.ENOSPC}] No space left on device; make room and run again\n"
    )


def test_another_fault_of_the_system_is_not_hidden() -> None:
    with pytest.raises(OSError, match="unheard of"), exit_codes(quiet=True):
        raise OSError(errno.EINVAL, "unheard of")


def test_names_do_not_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    name = "a\x1b]0;title\x07\x9b31m\r.tif"

    @exit_codes(quiet=False)
    def run() -> None:
        logging.getLogger("geo_retina").warning("%s:\n\tfound", name)
        raise RasterError(f"{name}: broken")

    with pytest.raises(typer.Exit):
        run()
    told = capsys.readouterr().err
    escaped = r"a\x1b]0;title\x07\x9b31m"
    assert told == f"warning: {escaped}\\x0d.tif:\n\tfound\nerror: {escaped} .tif: broken\n"
