from pathlib import Path

from PIL import Image
from typer.testing import CliRunner

from geo_retina.cli.main import app


def test_rasters_without_crs_cannot_be_brought_to_a_gsd(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "plain.png")
    csv = tmp_path / "labels.csv"
    csv.write_text("image_path,xmin,ymin,xmax,ymax,label\nplain.png,8,8,24,24,tank\n")
    done = CliRunner().invoke(app, ["anchors", str(csv), "--gsd", "1.2", "-q"])
    assert done.exit_code == 2
    assert "plain.png has no CRS" in done.stderr
    assert "leave --gsd out" in done.stderr
    assert CliRunner().invoke(app, ["anchors", str(csv), "-q"]).exit_code == 0
