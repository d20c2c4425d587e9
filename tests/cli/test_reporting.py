import errno

import pytest
import typer

from geo_retina.cli.reporting import FAILURE, exit_codes


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
