from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from PIL import Image


def test_rasters_without_crs_cannot_be_brought_to_a_gsd(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "plain.png")
    csv = tmp_path / "labels.csv"
    csv.write_text("image_path,xmin,ymin,xmax,ymax,label\nplain.png,8,8,24,24,tank\n")
    done = run("anchors", csv, "--gsd", "1.2", "-q")
    assert done.exit_code == 2
    assert "plain.png has no CRS" in done.stderr
    assert "leave --gsd out" in done.stderr
    assert run("anchors", csv, "-q").exit_code == 0

    done = run("anchors", csv, "-q", "--picture", tmp_path / "plain.png")
    assert done.exit_code == 2
    assert "plain.png would be overwritten" in done.stderr


def test_own_pixels_need_no_georeference(
    run: Callable[..., Any], write_raster: Callable[..., Path], tmp_path: Path
) -> None:
    raster = np.zeros((1, 64, 64), np.uint8)
    write_raster("half.tif", raster, transform=Affine.identity())  # a CRS alone
    csv = tmp_path / "labels.csv"
    csv.write_text("image_path,xmin,ymin,xmax,ymax,label\nhalf.tif,8,8,24,24,tank\n")
    assert run("anchors", csv, "-q").exit_code == 0
    assert "no transform" in run("anchors", csv, "--gsd", "1.2", "-q").stderr
