"""Fixtures for all tests: model cards and tiny rasters, made on the spot.

A fixture called `make_...` or `write_...` is a function: call it with what your test needs.
"""

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning

from geo_retina.card import ModelCard

pytest_plugins = ["blobs"]

# how long an example takes says how busy the machine is, and the first one may load or compile
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

UTM33 = "EPSG:32633"
ORIGIN = (500_000.0, 5_400_000.0)
"""Easting and northing in `UTM33` of the upper-left corner of rasters made here."""


def pytest_configure(config: pytest.Config) -> None:
    """Tests that are not about a GPU run on the CPU, whatever the machine has."""
    if "not gpu" in config.option.markexpr:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def card_of(**changes: object) -> ModelCard:
    """Card of an imaginary model for 8-bit RGB at 0.1 m with one class; `changes` win."""
    plain: dict[str, Any] = {
        "name": "test",
        "summary": "For tests.",
        "licence": "CC0-1.0",
        "class_names": ("tree",),
        "bands": ("red", "green", "blue"),
        "dtype": "uint8",
        "value_range": (0, 255),
        "mean": (0.4, 0.5, 0.3),
        "std": (0.2, 0.2, 0.2),
        "gsd_m": 0.1,
        "coarsest_gsd_m": 0.3,
        "chip_px": 64,
        "overlap_px": 16,
        "score": 0.3,
        "nms_iou": 0.5,
        "candidates_per_level": 1000,
        "detections_per_chip": 500,
    }
    return ModelCard(**(plain | changes))


def raster_at(
    path: Path,
    pixels: NDArray[Any],
    *,
    gsd: float = 0.1,
    crs: str | None = UTM33,
    transform: Affine | None = None,
    mask: NDArray[np.bool_] | None = None,
    colours: Sequence[str] | None = None,
    descriptions: Sequence[str] | None = None,
    overviews: Sequence[int] = (),
    **creation: object,
) -> Path:
    """Write (bands, height, width) or (height, width) `pixels` to `path`, and return `path`.

    Args:
        path: Where to.
        pixels: Samples; their data type is the file's.
        gsd: Edge of a pixel, in CRS units, where no `transform` is given.
        crs: Anything rasterio takes; None for a file without georeference.
        transform: Pixel edges to world; by default north-up from `ORIGIN`.
        mask: (height, width), True = valid; written as a mask inside the file.
        colours: Colour interpretation of each band, such as `red`, `nir`, `alpha`.
        descriptions: Name of each band.
        overviews: Factors of overviews to build by averaging.
        creation: Options of the driver (`driver="PNG"`, `tiled=True`, `nodata=0`, `gcps=...`).
    """
    bands = np.atleast_3d(pixels.T).T if pixels.ndim == 2 else pixels
    count, height, width = bands.shape
    north_up = Affine(gsd, 0, ORIGIN[0], 0, -gsd, ORIGIN[1])
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "count": count,
        "height": height,
        "width": width,
        "dtype": bands.dtype,
    }
    if "gcps" in creation:
        profile["crs"] = crs
    elif crs is not None:
        profile |= {"crs": crs, "transform": transform or north_up}
    elif transform is not None:
        profile["transform"] = transform
    options = {"GDAL_TIFF_INTERNAL_MASK": "YES", "GDAL_PAM_ENABLED": "YES"}
    with rasterio.Env(**options), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        file = rasterio.open(path, "w", **(profile | creation))
    with rasterio.Env(**options), file:
        file.write(bands)
        if mask is not None:
            file.write_mask(mask.astype(np.uint8) * 255)
        if colours is not None:
            file.colorinterp = [ColorInterp[colour] for colour in colours]
        for band, text in enumerate(descriptions or (), start=1):
            file.set_band_description(band, text)
    if overviews:
        with rasterio.open(path, "r+") as file:
            file.build_overviews(list(overviews), rasterio.enums.Resampling.average)
    return path


@pytest.fixture(scope="session")
def make_card() -> Callable[..., ModelCard]:
    """`make_card(**changes)`: a valid `ModelCard`, see `card_of`."""
    return card_of


@pytest.fixture
def write_raster(tmp_path: Path) -> Callable[..., Path]:
    """`write_raster(name, pixels, **options)`: a raster in the test's folder, see `raster_at`."""

    def write(name: str, pixels: NDArray[Any], **options: object) -> Path:
        return raster_at(tmp_path / name, pixels, **options)

    return write


@pytest.fixture(scope="session")
def write_raster_at() -> Callable[..., Path]:
    """`write_raster_at(path, pixels, **options)`: for fixtures that outlive one test."""
    return raster_at


@pytest.fixture(scope="session")
def noise() -> Callable[..., NDArray[Any]]:
    """`noise(bands, height, width, dtype="uint8", low=1, high=250)`: the same random pixels."""

    def make(
        bands: int, height: int, width: int, *, dtype: str = "uint8", low: int = 1, high: int = 250
    ) -> NDArray[Any]:
        generator = np.random.default_rng(7)
        return generator.integers(low, high, (bands, height, width)).astype(dtype)

    return make
