"""Each row of docs/any-raster.md: a known object lands on its place on the ground.

A bright rectangle is drawn at known pixels. Where these lie on the ground is computed here, from
the transform that was written, with nothing of the package. The raster is then read as a model
reads it, and the rectangle's centre of mass must lie within a tenth of a working pixel.
"""

import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from fixture_types import MakeCard, WriteRaster
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.shutil import copy as copy_raster

from geo_retina.card import ModelCard
from geo_retina.imagery.mosaic import write_mosaic
from geo_retina.imagery.raster import open_raster
from geo_retina.imagery.read_options import ReadOptions
from geo_retina.imagery.source import ChipSource, open_chip_source
from geo_retina.space.windows import WindowPlan

Array = NDArray[Any]

WIDTH, HEIGHT = 231, 187
BOX = (150, 90, 174, 106)
DARK, BRIGHT = 40, 200
NORTH_UP = Affine(0.1, 0, 500_000, 0, -0.1, 5_400_000)


@dataclass(frozen=True)
class Kind:
    """A kind of raster: how to write it, where it lies, how to read it."""

    write: Callable[..., Any]
    transform: Affine = NORTH_UP
    crs: str | None = "EPSG:32633"
    opened: dict[str, Any] = field(default_factory=dict)
    read: dict[str, Any] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)
    resampled: bool = False
    width: int = WIDTH
    height: int = HEIGHT
    box: tuple[int, int, int, int] = BOX


def scene(kind: Kind, bands: int = 3) -> Array:
    pixels = np.full((bands, kind.height, kind.width), DARK, np.uint8)
    x_min, y_min, x_max, y_max = kind.box
    pixels[:, y_min:y_max, x_min:x_max] = BRIGHT
    return pixels


def tiff(
    folder: Path,
    kind: Kind,
    write: Callable[..., Path],
    *,
    change: Callable[[Array], Array] = np.asarray,
    name: str = "a.tif",
    **options: object,
) -> Path:
    options = {"crs": kind.crs, "transform": kind.transform} | options
    return write(folder / name, change(scene(kind)), **options)


def has_driver(name: str) -> bool:
    with rasterio.Env() as env:
        return name in env.drivers()


def tiled(**options: object) -> Callable[..., Path]:
    return partial(tiff, tiled=True, blockxsize=64, blockysize=64, **options)


def converted(name: str, **options: object) -> Callable[..., Path]:
    def save(folder: Path, kind: Kind, write: Callable[..., Path]) -> Path:
        source = tiff(folder, kind, write, name="source.tif")
        copy_raster(source, folder / name, **options)
        source.unlink()
        return folder / name

    return save


def vrt(folder: Path, kind: Kind, write: Callable[..., Path]) -> Path:
    tiff(folder, kind, write, name="source.tif")
    copy_raster(folder / "source.tif", folder / "a.vrt", driver="VRT")
    return folder / "a.vrt"


def world_file(folder: Path, kind: Kind, write: Callable[..., Path]) -> Path:
    path = write(folder / "a.png", scene(kind), crs=None, driver="PNG", WORLDFILE="NO")
    a, b, _, d, e, _ = kind.transform[:6]
    x, y = kind.transform @ (0.5, 0.5)  # a world file names the centre of the first pixel
    (folder / "a.pgw").write_text("\n".join(f"{value:.9f}" for value in (a, d, b, e, x, y)))
    return path


def zipped(folder: Path, kind: Kind, write: Callable[..., Path]) -> str:
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.write(tiff(folder, kind, write), "inner/a.tif")
    return f"/vsizip/{folder}/a.zip/inner/a.tif"


def gcps(folder: Path, kind: Kind, write: Callable[..., Path]) -> Path:
    corners = [(0, 0), (WIDTH, 0), (WIDTH, HEIGHT), (0, HEIGHT), (90, 20)]
    points = [
        GroundControlPoint(row=row, col=col, x=x, y=y)
        for col, row in corners
        for x, y in [kind.transform @ (col, row)]
    ]
    return write(folder / "a.tif", scene(kind), crs=kind.crs, gcps=points)


def alpha(pixels: Array) -> Array:
    return np.concatenate([pixels, np.full_like(pixels[:1], 255)])


def with_nir(pixels: Array) -> Array:
    return np.concatenate([np.full_like(pixels[:1], 255), pixels])


ROTATED = Affine.translation(500_000, 5_400_000) @ Affine.rotation(33) @ Affine.scale(0.1, -0.1)
SHEARED = Affine.translation(500_000, 5_400_000) @ Affine.shear(12, 0) @ Affine.scale(0.1, -0.1)
DEGREES = Affine(1e-6, 0, 13.4, 0, -9e-7, 52.5)
SMALL = {"gsd_m": 0.1, "coarsest_gsd_m": 0.3}

KINDS = {
    "tiled GeoTIFF": Kind(tiled()),
    "striped GeoTIFF": Kind(partial(tiff, blockysize=3)),
    "BigTIFF": Kind(tiled(BIGTIFF="YES")),
    "band-interleaved": Kind(tiled(interleave="band")),
    "JPEG": Kind(tiled(compress="JPEG", photometric="YCBCR", JPEG_QUALITY=95)),
    "LZW": Kind(tiled(compress="LZW", predictor=2)),
    "DEFLATE": Kind(tiled(compress="DEFLATE")),
    "ZSTD": Kind(tiled(compress="ZSTD")),
    "WebP": Kind(tiled(compress="WEBP", WEBP_LOSSLESS="YES")),
    "COG": Kind(converted("a.tif", driver="COG", BLOCKSIZE=128)),
    "VRT": Kind(vrt),
    "JPEG 2000": Kind(converted("a.jp2", driver="JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES")),
    "world file": Kind(world_file, opened={"crs": "EPSG:32633"}),
    "zip": Kind(zipped),
    "RGB + alpha": Kind(tiled(change=alpha, colours=["red", "green", "blue", "alpha"])),
    "named bands": Kind(tiled(change=with_nir, descriptions=["nir", "red", "green", "blue"])),
    "stated bands": Kind(
        tiled(change=with_nir, photometric="MINISBLACK"), read={"bands": [2, 3, 4]}
    ),
    "16 bits, scale": Kind(
        tiled(change=lambda pixels: pixels.astype(np.uint16) * 40), read={"scale": (0, 255 * 40)}
    ),
    "floats, stretch": Kind(
        tiled(change=lambda pixels: pixels / np.float32(255)), read={"stretch": (0, 100)}
    ),
    "rotated": Kind(tiled(), transform=ROTATED),
    "sheared": Kind(tiled(), transform=SHEARED),
    "south-up": Kind(tiled(), transform=Affine(0.1, 0, 500_000, 0, 0.1, 5_400_000)),
    "non-square pixels": Kind(
        tiled(), transform=Affine(0.04, 0, 500_000, 0, -0.15, 5_400_000), resampled=True
    ),
    "GCPs": Kind(gcps, transform=ROTATED),
    "degrees": Kind(tiled(), transform=DEGREES, crs="EPSG:4326", resampled=True),
    "feet": Kind(tiled(), transform=Affine(0.33, 0, 990_000, 0, -0.33, 200_000), crs="EPSG:2263"),
    "Web Mercator": Kind(
        tiled(), transform=Affine(0.2, 0, 1_200_000, 0, -0.2, 8_399_737), crs="EPSG:3857"
    ),
    "compound CRS": Kind(tiled(), crs="EPSG:25832+5783"),
    "antimeridian": Kind(
        tiled(), transform=Affine(9e-7, 0, 179.9999, 0, -9e-7, 1), crs="EPSG:4326"
    ),
    "local CRS": Kind(tiled(), crs='LOCAL_CS["site",UNIT["metre",1]]', read={"gsd_m": 0.1}),
    "no georeference": Kind(tiled(), crs=None, transform=None, read={"pixel_coordinates": True}),
    "finer": Kind(
        tiled(), transform=Affine(0.041, 0, 500_000, 0, -0.041, 5_400_000), resampled=True
    ),
    "coarser": Kind(
        tiled(), transform=Affine(0.27, 0, 500_000, 0, -0.27, 5_400_000), resampled=True
    ),
    "finer, with overviews": Kind(
        tiled(overviews=[2, 4, 8]),
        transform=Affine(0.011, 0, 500_000, 0, -0.011, 5_400_000),
        resampled=True,
        width=1501,
        height=1203,
        box=(1303, 1007, 1439, 1133),
    ),
    "JPEG 2000 with overviews": Kind(
        converted("a.jp2", driver="JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES"),
        transform=Affine(0.024, 0, 500_000, 0, -0.024, 5_400_000),
        resampled=True,
        width=1501,
        height=1203,
        box=(1303, 1007, 1439, 1133),
    ),
}


def read_whole(source: ChipSource) -> tuple[Array, Array]:
    """The working grid read through overlapping chips: pixels and valid mask."""
    grid = source.grid
    pixels = np.zeros((3, grid.height, grid.width))
    valid = np.zeros((grid.height, grid.width), bool)
    for strip in WindowPlan(grid.width, grid.height, 64, 16).strips():
        for window in strip.windows:
            chip = source.read(window)
            x_min, y_min, x_max, y_max = window.box
            pixels[:, y_min:y_max, x_min:x_max] = chip.pixels
            valid[y_min:y_max, x_min:x_max] = chip.valid
    return pixels, valid


def centre_of_mass(pixels: Array) -> Array:
    """Pixel x, y of the centre of what is brighter than the background."""
    mass = pixels.mean(axis=0)
    mass = np.where(mass - mass.min() > 0.1 * np.ptp(mass), mass - mass.min(), 0)
    y, x = np.indices(mass.shape) + 0.5
    return np.array([(x * mass).sum(), (y * mass).sum()]) / mass.sum()


def assert_lands(path: str | Path, kind: Kind, card: ModelCard) -> None:
    with open_raster(path, **kind.opened) as raster:
        source = open_chip_source(raster, card, ReadOptions(**kind.read))
        pixels, valid = read_whole(source)
        assert source.is_resampled == kind.resampled
        assert valid.all()
        x_min, y_min, x_max, y_max = kind.box
        placed = kind.transform or Affine.identity()
        world = placed @ ((x_min + x_max) / 2, (y_min + y_max) / 2)
        x, y = ~source.grid.transform @ world
        np.testing.assert_allclose(centre_of_mass(pixels), [x, y], atol=0.1)
        if source.is_resampled:
            size = np.array([source.grid.width, source.grid.height])
            scale = np.array([source.scale_x, source.scale_y])
            np.testing.assert_allclose(size * scale, [kind.width, kind.height])
            np.testing.assert_allclose(source.grid.gsd_m(), card.gsd_m, rtol=0.02)


@pytest.mark.parametrize("name", KINDS)
def test_object_lands_on_its_place(
    name: str, tmp_path: Path, write_raster_at: WriteRaster, make_card: MakeCard
) -> None:
    kind = KINDS[name]
    if "WebP" in name and not has_driver("WEBP"):
        pytest.skip("GDAL lacks WebP")
    if name.startswith("JPEG 2000") and not has_driver("JP2OpenJPEG"):
        pytest.skip("GDAL lacks JPEG 2000")
    path = kind.write(tmp_path, kind, write_raster_at)
    assert_lands(path, kind, make_card(**kind.card))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a web server for the test's folder; its own process: GDAL may hold the GIL."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    script = Path(__file__).with_name("serve_ranges.py")
    command = [sys.executable, str(script), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield f"127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()


@pytest.mark.parametrize("prefix", ["http://", "/vsicurl/http://"])
def test_object_lands_on_its_place_over_http(
    prefix: str, server: str, tmp_path: Path, write_raster_at: WriteRaster, make_card: MakeCard
) -> None:
    kind = Kind(tiled())
    kind.write(tmp_path, kind, write_raster_at)
    assert_lands(f"{prefix}{server}/a.tif", kind, make_card())


@pytest.mark.parametrize("where", ["http", "zip"])
def test_object_lands_on_its_place_in_a_mosaic_of_remote_files(
    where: str, server: str, tmp_path: Path, write_raster_at: WriteRaster, make_card: MakeCard
) -> None:
    kind = Kind(tiled())
    path = kind.write(tmp_path, kind, write_raster_at)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(path, "inner/a b.tif")
    inner = f"zip://{tmp_path}/a.zip!inner/a b.tif"
    write_mosaic([f"http://{server}/a.tif" if where == "http" else inner], tmp_path / "all.vrt")
    assert_lands(tmp_path / "all.vrt", kind, make_card())


def test_object_lands_on_its_place_in_a_bucket(
    server: str,
    tmp_path: Path,
    write_raster_at: WriteRaster,
    make_card: MakeCard,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "bucket").mkdir()
    kind = Kind(tiled())
    kind.write(tmp_path / "bucket", kind, write_raster_at)
    for key, value in {
        "AWS_S3_ENDPOINT": server,
        "AWS_HTTPS": "NO",
        "AWS_VIRTUAL_HOSTING": "FALSE",
        "AWS_NO_SIGN_REQUEST": "YES",
    }.items():
        monkeypatch.setenv(key, value)
    assert_lands("s3://bucket/a.tif", kind, make_card())
