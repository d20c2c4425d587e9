"""`geo-retina detect` in many rasters: files of each, one bad raster among good ones."""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint

from geo_retina.detection import backends
from geo_retina.detection.each import EachRun, Task, plan_tasks
from geo_retina.detection.options import DetectOptions, OutputOptions, WorkOptions
from geo_retina.errors import WriteError

Field = Callable[..., tuple[Any, Any]]


@pytest.fixture
def plots(write_raster_at: Callable[..., Path], field_of_objects: Field, tmp_path: Path) -> Path:
    """A folder of three rasters of unlike size, with 20 to 60 objects each."""
    folder = tmp_path / "plots"
    folder.mkdir()
    for number, (width, height) in enumerate([(200, 150), (90, 220), (130, 130)]):
        pixels = field_of_objects(width, height, seed=number)[0]
        write_raster_at(folder / f"plot_{number}.tif", pixels, blockysize=4, interleave="pixel")
    return folder


def _truncate(path: Path) -> bytes:
    """Take the last quarter of a raster's bytes away: it opens, and cannot be read."""
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 4])
    return whole


def test_each_raster_has_the_files_that_it_would_have_alone(
    run: Callable[..., Any],
    blob_model: Callable[..., Any],
    plots: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blob_model()
    load, loads = backends.load_backend, []
    monkeypatch.setattr(
        "geo_retina.detection.backends.load_backend",
        lambda *given, **more: loads.append(given) or load(*given, **more),
    )
    out = tmp_path / "of {brace}"  # other braces mean nothing
    out.mkdir()
    done = run("detect", plots, "-o", out / "{name}.geojson", "-o", out / "{name}_x.gpkg",
               "--picture", out / "{name}.png", "--map", out / "{name}.html",
               "--summary", out / "{name}.json")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert len(loads) == 1, "the model is loaded once"
    count = 0
    for raster in sorted(plots.iterdir()):
        alone = tmp_path / "alone.geojson"
        assert run("detect", raster, "-o", alone).exit_code == 0
        assert (out / f"{raster.stem}.geojson").read_bytes() == alone.read_bytes()
        count += len(gpd.read_file(out / f"{raster.stem}_x.gpkg"))
        assert {(out / f"{raster.stem}{end}").exists() for end in (".png", ".html", ".json")} == {
            True
        }
        assert f"{out / raster.stem}.geojson" in done.stdout
    assert f"found {count} objects ({count} tree) in 3 rasters" in done.stdout


def test_a_raster_that_fails_does_not_stop_the_others(
    run: Callable[..., Any], blob_model: Callable[..., Any], plots: Path, tmp_path: Path
) -> None:
    detector = blob_model()
    whole = _truncate(plots / "plot_1.tif")
    done = run("detect", plots, "-o", tmp_path / "{name}.gpkg")
    assert done.exit_code == 1
    assert [path.stem for path in sorted(tmp_path.glob("*.gpkg"))] == ["plot_0", "plot_2"]
    assert "plot_1.tif" in done.stderr
    assert "--resume" in done.stderr
    assert "warning: 1 of them could not be read" in done.stderr

    (plots / "plot_1.tif").write_bytes(whole)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.gpkg")}
    detector.calls = 0
    refused = run("detect", plots, "-o", tmp_path / "{name}.gpkg")
    assert refused.exit_code == 2, "the broken run's ledger lies there"
    assert "plot_1.gpkg.ledger; go on with --resume" in refused.stderr
    assert detector.calls == 0
    done = run("detect", plots, "-o", tmp_path / "{name}.gpkg", "--restart")
    assert done.exit_code == 0, done.stderr
    assert all(path.stat().st_mtime_ns > time for path, time in times.items())


def test_resume_leaves_what_is_done(
    run: Callable[..., Any], blob_model: Callable[..., Any], plots: Path, tmp_path: Path
) -> None:
    blob_model()
    out = tmp_path / "{name}.gpkg"
    assert run("detect", plots / "plot_0.tif", "-o", out).exit_code == 0
    times = (tmp_path / "plot_0.gpkg").stat().st_mtime_ns
    done = run("detect", plots, "-o", out, "--resume")
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "plot_0.gpkg").stat().st_mtime_ns == times
    assert f"done before: {tmp_path / 'plot_0.gpkg'}" in done.stdout
    assert "in 2 rasters" in done.stdout
    # with a picture to make, it is not done
    done = run("detect", plots, "-o", out, "--resume", "--picture", tmp_path / "{name}.png")
    assert "in 3 rasters" in done.stdout
    assert "nothing left to do" in run("detect", plots, "-o", out, "--resume").stdout


@pytest.mark.parametrize("ending", ["gpkg", "fgb", "parquet", "geojson", "coco.json"])
def test_resume_does_not_take_the_files_of_another_run_for_its_own(
    run: Callable[..., Any],
    blob_model: Callable[..., Any],
    plots: Path,
    tmp_path: Path,
    ending: str,
) -> None:
    """A run with other options over the files of an earlier one was interrupted."""
    detector = blob_model()
    out = tmp_path / f"{{name}}.{ending}"
    assert run("detect", plots, "-o", out).exit_code == 0
    assert run("detect", plots / "plot_0.tif", "-o", out, "--score", "0.9").exit_code == 0
    left, calls = (tmp_path / f"plot_1.{ending}").read_bytes(), detector.calls
    done = run("detect", plots, "-o", out, "--score", "0.9", "--resume", "-q")
    assert done.exit_code == 2
    assert f"plot_1.{ending} is of another run: options.score was null, now is 0.9" in done.stderr
    assert detector.calls == calls
    assert (tmp_path / f"plot_1.{ending}").read_bytes() == left
    assert run("detect", plots, "-o", out, "--score", "0.9").exit_code == 0
    again = run("detect", plots, "-o", out, "--score", "0.9", "--resume")
    assert "nothing left to do" in again.stdout


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--simplify-to", "point"), "options.geometry was 'polygon', now is 'point'"),
        (("--crs", "EPSG:4326"), "options.crs was null, now is 'EPSG:4326'"),
    ],
)
def test_resume_does_not_take_files_of_another_shape_or_crs_for_its_own(
    run: Callable[..., Any],
    blob_model: Callable[..., Any],
    plots: Path,
    tmp_path: Path,
    option: tuple[str, str],
    said: str,
) -> None:
    blob_model()
    out = tmp_path / "{name}.gpkg"
    assert run("detect", plots, "-o", out).exit_code == 0
    done = run("detect", plots, "-o", out, *option, "--resume", "-q")
    assert done.exit_code == 2
    assert said in done.stderr.replace('"', "'")
    assert run("detect", plots, "-o", out, *option).exit_code == 0
    again = run("detect", plots, "-o", out, *option, "--resume")
    assert "nothing left to do" in again.stdout


def test_everything_is_checked_before_the_first_raster(
    run: Callable[..., Any],
    blob_model: Callable[..., Any],
    write_raster_at: Callable[..., Path],
    plots: Path,
    tmp_path: Path,
) -> None:
    detector = blob_model()
    write_raster_at(plots / "plot_3.tif", np.zeros((1, 9, 9), np.uint8))
    (plots / "plot_4.tif").write_text("no raster")
    done = run("detect", plots, "-o", tmp_path / "{name}.gpkg", "--quiet")
    assert done.exit_code == 2
    assert done.stderr.startswith("error: 2 of 5 rasters cannot be used, nothing was begun: ")
    assert "plot_3.tif" in done.stderr
    assert "plot_4.tif" in done.stderr
    assert done.stderr.count("\n") == 1
    assert detector.calls == 0
    assert not list(tmp_path.glob("plot*.*"))

    once = run("detect", plots, "-o", tmp_path / "{name}.gpkg", "--method", "magic", "-q")
    assert once.stderr.count("soft-nms") == 1, "a wrong option is told once"
    endings = {"--picture": "png", "--map": "html", "--summary": "json"}
    no_folder = tmp_path / "none" / "{name}."
    for option in ("--picture", "--map", "--summary"):
        done = run(
            "detect",
            plots / "plot_0.tif",
            "-o",
            plots / "{name}.gpkg",
            option,
            f"{no_folder}{endings[option]}",
        )
        assert done.exit_code == 2
        assert "does not exist" in done.stderr
    done = run("detect", plots, "-o", tmp_path / "none" / "{name}.gpkg")
    assert done.exit_code == 2
    assert done.stderr.count("does not exist") == 1, "once for the folder, not for each raster"


def test_files_of_two_rasters_are_never_one(
    run: Callable[..., Any], blob_model: Callable[..., Any], plots: Path, tmp_path: Path
) -> None:
    blob_model()
    twin = tmp_path / "plot_0.tif"
    twin.write_bytes((plots / "plot_0.tif").read_bytes())
    done = run("detect", plots, twin, "-o", tmp_path / "{name}.gpkg")
    assert done.exit_code == 2
    assert "would both be written to" in done.stderr
    same = run("detect", plots, "-o", tmp_path / "{name}.gpkg", "--picture", tmp_path / "a.png")
    assert same.exit_code == 2
    assert "expected {name} in" in same.stderr
    assert not list(tmp_path.glob("*.gpkg"))
    # the same raster named twice is one
    done = run("detect", plots / "plot_0.tif", plots / "plot_*.tif", "-o", tmp_path / "{name}.gpkg")
    assert "in 3 rasters" in done.stdout


def test_progress_is_that_of_all_rasters(
    blob_model: Callable[..., Any], plots: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blob_model()
    told: list[tuple[float, float, int]] = []
    each = _each(plots, tmp_path)
    with caplog.at_level(logging.INFO):
        each.check()
        assert not caplog.records, "what a run will tell is not told twice"
        counts = [done.result.counts.objects for done in each.run(lambda *now: told.append(now))]
    megapixels = (200 * 150 + 90 * 220 + 130 * 130) / 1e6
    done, whole, found = (np.array(values) for values in zip(*told, strict=True))
    assert whole == pytest.approx(np.full(len(told), megapixels))
    assert (np.diff(done) >= 0).all()
    assert (np.diff(found) >= 0).all()
    assert (done[-1], found[-1]) == (pytest.approx(megapixels), sum(counts))


def test_a_full_disk_ends_the_run(
    blob_model: Callable[..., Any], plots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = blob_model()

    def fail(*_: object) -> None:
        raise WriteError("no space left on the device")

    monkeypatch.setattr("geo_retina.detection.run_summary.RunSummary.write", fail)
    with pytest.raises(WriteError, match="no space"):
        list(_each(plots, tmp_path, summary=tmp_path / "{name}.json").run())
    assert len(list(tmp_path.glob("*.gpkg"))) == 1
    assert detector.calls > 0


def _each(plots: Path, out: Path, summary: Path | None = None) -> EachRun:
    return EachRun(
        plan_tasks([str(plots)], [out / "{name}.gpkg"], summary=summary),
        model="tree-crowns",
        options=DetectOptions(),
        output_options=OutputOptions(),
        work=WorkOptions(),
    )


def test_what_an_earlier_call_left_in_the_folder_is_no_raster(
    run: Callable[..., Any], blob_model: Callable[..., Any], plots: Path
) -> None:
    blob_model()
    views = ("-o", plots / "{name}.gpkg", "--picture", plots / "{name}.png")
    for _ in range(2):
        assert run("detect", plots, *views).exit_code == 0
    done = run("detect", plots, *views, "--resume")
    assert done.exit_code == 0, done.stderr
    assert "nothing left to do" in done.stdout
    alone = run("detect", plots / "plot_0.tif", "-o", plots / "a.gpkg", "--picture", "{name}.png")
    assert alone.exit_code == 2, "a name in one path asks for it in all"


def test_a_mosaic_beside_its_tiles_is_refused(
    run: Callable[..., Any], blob_model: Callable[..., Any], plots: Path, tmp_path: Path
) -> None:
    detector = blob_model()
    mosaic = plots / "all.vrt"
    assert run("mosaic", plots / "plot_0.tif", "-o", mosaic).exit_code == 0
    done = run("detect", plots, "-o", tmp_path / "{name}.gpkg", "-q")
    assert done.exit_code == 2
    assert re.search(r"all\.vrt shows .*plot_0\.tif", done.stderr)
    assert detector.calls == 0
    assert run("detect", mosaic, "-o", tmp_path / "{name}.gpkg").exit_code == 0


def test_no_output_takes_the_place_of_what_another_raster_reads(
    run: Callable[..., Any], blob_model: Callable[..., Any], plots: Path, tmp_path: Path
) -> None:
    blob_model()
    source = tmp_path / "plot_1.png"
    with rasterio.open(plots / "plot_0.tif") as raster:
        profile = raster.profile | {"driver": "PNG"}
        for key in ("tiled", "blockxsize", "blockysize", "interleave"):
            profile.pop(key, None)
        with rasterio.open(source, "w", **profile) as copy:
            copy.write(raster.read())
    assert run("mosaic", source, "-o", tmp_path / "all.vrt").exit_code == 0
    before = source.read_bytes()
    done = run("detect", tmp_path / "all.vrt", plots / "plot_1.tif", "-o",
               tmp_path / "{name}.gpkg", "--picture", tmp_path / "{name}.png", "-q")  # fmt: skip
    assert done.exit_code == 2
    assert "plot_1.png would be overwritten, and it is read" in done.stderr
    assert run("mosaic", tmp_path / "all.vrt", "-o", tmp_path / "more.vrt").exit_code == 0
    done = run("detect", tmp_path / "more.vrt", "-o", tmp_path / "a.gpkg", "--picture", source)
    assert done.exit_code == 2, "of a mosaic of mosaics, too"
    assert source.read_bytes() == before


def test_a_raster_with_holes_is_not_done(
    run: Callable[..., Any], blob_model: Callable[..., Any], plots: Path, tmp_path: Path
) -> None:
    blob_model()
    whole = _truncate(plots / "plot_1.tif")
    many = ("detect", plots, "-o", tmp_path / "{name}.gpkg")
    assert run(*many, "--skip-errors").exit_code == 1
    (plots / "plot_1.tif").write_bytes(whole)
    done = run(*many, "--resume")
    assert done.exit_code == 0, done.stderr
    assert "in 1 raster" in done.stdout
    assert not list(tmp_path.glob("*.failed_windows.*"))


def test_one_fault_among_many_rasters_names_its_raster(
    run: Callable[..., Any],
    blob_model: Callable[..., Any],
    write_raster_at: Callable[..., Path],
    plots: Path,
    tmp_path: Path,
) -> None:
    blob_model()
    far = Affine(0.1, 0, 9e7, 0, -0.1, 9e7)
    write_raster_at(plots / "far.tif", np.zeros((3, 9, 9), np.uint8), transform=far)
    done = run("detect", plots, "-o", tmp_path / "{name}.gpkg", "-q")
    assert done.exit_code == 2
    assert "far.tif: " in done.stderr
    plan = run("detect", plots / "plot_0.tif", plots / "plot_1.tif", "--plan")
    assert "--plan takes one raster, got 2" in plan.stderr


@pytest.mark.parametrize(
    ("raster", "file"),
    [
        ("plots/a.b.tif", "a.b.gpkg"),
        ("https://host/b/a.tif?sig=1.2&p=/x/y", "a.gpkg"),
        ("/vsicurl/https://host/a.tif?v=1.2", "a.gpkg"),
        ("/vsizip/x.zip/in/a.tif", "a.gpkg"),
        ('NETCDF:"f.nc":trees', "NETCDF_f.nc_trees.gpkg"),
        ("C:trees.tif", "C_trees.gpkg"),
    ],
)
def test_files_are_named_after_the_raster(raster: str, file: str) -> None:
    assert Task.of(raster, [Path("{name}.gpkg")]).outputs == (Path(file),)


def test_a_warning_of_a_raster_that_is_opened_twice_is_printed_once(
    run: Callable[..., Any],
    blob_model: Callable[..., Any],
    write_raster_at: Callable[..., Path],
    tmp_path: Path,
) -> None:
    blob_model()
    corners = [(0, 0), (64, 0), (0, 64)]
    points = [GroundControlPoint(y, x, 500_000 + 0.1 * x, 9_000 - 0.1 * y) for x, y in corners]
    for name in ("a", "b"):
        pixels = np.full((3, 64, 64), 20, np.uint8)
        write_raster_at(tmp_path / f"{name}.tif", pixels, crs="EPSG:32633", gcps=points)
    for _ in range(2):
        rasters = tmp_path / "a.tif", tmp_path / "b.tif"
        done = run("detect", *rasters, "-o", tmp_path / "{name}.csv", "--restart")
        assert done.exit_code == 0, done.stderr
        assert done.stderr.count("ground control points") == 2
