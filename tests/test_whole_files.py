"""Files that appear when they are whole, and not at all otherwise."""

from pathlib import Path

import pytest

from geo_retina.errors import OutputError, WriteError
from geo_retina.whole_files import check_place, whole_file


def _write_half(path: Path, failure: BaseException) -> None:
    with whole_file(path) as begun:
        begun.write_text("half")
        raise failure


def test_a_file_appears_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")
    with whole_file(path) as begun:
        begun.write_text("after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert [item.name for item in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("failure", [OSError(28, "No space left"), KeyboardInterrupt()])
def test_whatever_fails_the_file_is_as_it_was(tmp_path: Path, failure: BaseException) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")
    expected = WriteError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        _write_half(path, failure)
    assert path.read_text() == "before"
    assert [item.name for item in tmp_path.iterdir()] == ["a.txt"]


def test_an_error_of_ours_is_not_wrapped_and_the_kind_is_as_asked(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match=r"^mine$"), whole_file(tmp_path / "a.txt"):
        raise WriteError("mine")
    with (
        pytest.raises(OutputError, match=r"cannot write .*none.a\.txt: No such file"),
        whole_file(tmp_path / "none" / "a.txt", error=OutputError) as begun,
    ):
        begun.write_text("nowhere to be")
    with (
        pytest.raises(WriteError, match="name too long"),
        whole_file(tmp_path / ("a" * 252)) as begun,
    ):
        begun.write_text("its helper has a longer name")


def test_a_link_stays(tmp_path: Path) -> None:
    (tmp_path / "target.txt").write_text("before")
    link = tmp_path / "link.txt"
    link.symlink_to(tmp_path / "target.txt")
    with whole_file(link) as begun:
        begun.write_text("after")
    assert link.is_symlink()
    assert (tmp_path / "target.txt").read_text() == "after"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a.txt", r"ends in \.png"),
        ("none/a.png", r"folder .*none of a\.png does not exist"),
        ("folder.png", "got the folder"),
        (f"{'a' * 230}.png", "at most 220 bytes"),
    ],
)
def test_what_cannot_be_is_refused_before(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OutputError, match=said):
        check_place(tmp_path / name, ending=".png")
    check_place(tmp_path / "a.png", ending=".png")
