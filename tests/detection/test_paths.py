from pathlib import Path

import pytest

from geo_retina.detection.paths import refuse_overwriting
from geo_retina.errors import OutputError


def test_a_file_is_known_under_any_of_its_names(tmp_path: Path) -> None:
    """A second name stands for one in other letters, where a disk takes capitals for small ones."""
    (tmp_path / "val.json").write_text("{}")
    (tmp_path / "link.json").symlink_to(tmp_path / "val.json")
    (tmp_path / "VAL.json").hardlink_to(tmp_path / "val.json")
    for name in ("val.json", "link.json", "VAL.json", f"../{tmp_path.name}/val.json"):
        with pytest.raises(OutputError, match="would be overwritten, and it is read"):
            refuse_overwriting([tmp_path / "val.json"], [None, tmp_path / name])
        with pytest.raises(OutputError, match=r"expected different outputs, got .* more than once"):
            refuse_overwriting([None], [tmp_path / "val.json", tmp_path / name])


def test_other_files_may_be_written(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_text("")
    (tmp_path / "b.tif").write_text("")
    read = [tmp_path / "a.tif", "tree-crowns", "https://example.com/c.tif", "/vsizip/a.zip/b.tif"]
    refuse_overwriting(read, [tmp_path / "b.tif", tmp_path / "c.tif", tmp_path / "C.tif"])
