"""One raster file: what its header says, and its samples and masks through windows."""

import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import NodataShadowWarning, NotGeoreferencedWarning
from rasterio.windows import Window as RasterioWindow

from geo_retina.errors import GeoRetinaError, RasterError, RasterReadError
from geo_retina.imagery.files import files_of
from geo_retina.imagery.gdal import GDAL_ERRORS, reason, session
from geo_retina.imagery.georeference import Georeference, read_georeference
from geo_retina.space.windows import Window
from geo_retina.wording import shown

LARGEST_BLOCK_BYTES = 2**30
"""Largest internal block that is read: GDAL holds whole blocks in memory."""

LEAST_OVERVIEW_READ_PX = 64
"""Least width and height that is read of an overview, unless it is smaller."""

_LICENSED_FORMATS = {".sid": "MrSID", ".ecw": "ECW"}
_TURNED = tuple("2345678")
"""EXIF orientations other than upright (1) and unknown (0)."""
_BLOCK_HEAD_BYTES = 256  # what GDAL notes for each block of a band, generously
_FILTERING = threading.Lock()  # warning filters belong to the process


@dataclass(frozen=True, slots=True)
class Level:
    """The raster itself or one of its overviews, and where its pixels lie in the raster."""

    width: int
    """Columns."""
    height: int
    """Rows."""
    factor_x: float
    """Raster pixels per pixel of this level, along x."""
    factor_y: float
    """Raster pixels per pixel of this level, along y."""
    centred: bool
    """True where a level pixel is a sample at the first of the raster pixels it stands for, as the
    wavelets of JPEG 2000 make them; False where it is their average over their whole area."""

    def origin(self, factor: float) -> float:
        """Level coordinate of the raster's coordinate 0 along an axis with this factor."""
        return (factor - 1) / (2 * factor) if self.centred else 0.0


class Raster:
    """An open raster. Use as a context manager; safe to read from several threads, one at a time.

    Attributes:
        path: What was opened.
        name: File name without folder and ending, for titles.
        grid: Native grid; identity transform and no CRS where there is no georeference.
        georeference_gap: Why there is no georeference; None where there is one.
        driver: GDAL driver.
        band_count: Number of bands, alpha included.
        dtypes: Data type of each band.
        nodata: Nodata value of each band; None where a band has none.
        descriptions: Name of each band; empty where it has none.
        colours: Colour interpretation of each band: `red`, `nir`, `alpha`, `gray`, `undefined`...
        mask_flags: For each band what its mask comes from: `all_valid`, `per_dataset`, `alpha`,
            `nodata`; none of them for a mask of its own.
        block_shape: Rows, columns of an internal block of the first band.
        overview_factors: Raster pixels per overview pixel, from fine to coarse.
    """

    def __init__(self, dataset: Any, georeference: Georeference, path: str) -> None:  # noqa: ANN401
        self._dataset = dataset
        self._lock = threading.Lock()
        self._georeference = georeference
        self._levels: tuple[Level, ...] | None = None
        self.path = path
        self.name = PurePosixPath(path.replace(os.sep, "/").rstrip("/")).stem
        self.grid = georeference.grid
        self.georeference_gap = georeference.gap
        self.driver: str = dataset.driver
        self.band_count: int = dataset.count
        self.dtypes: tuple[str, ...] = tuple(dataset.dtypes)
        self.nodata: tuple[float | None, ...] = tuple(dataset.nodatavals)
        self.descriptions = tuple(text or "" for text in dataset.descriptions)
        self.colours: tuple[str, ...] = tuple(colour.name for colour in dataset.colorinterp)
        self.mask_flags: tuple[frozenset[str], ...] = tuple(
            frozenset(flag.name for flag in flags) for flags in dataset.mask_flag_enums
        )
        self.block_shape: tuple[int, int] = dataset.block_shapes[0]
        self.overview_factors: tuple[int, ...] = tuple(dataset.overviews(1))

    @property
    def has_georeference(self) -> bool:
        """True where the raster has a CRS and a transform."""
        return self.grid.crs is not None

    @property
    def shown_turned(self) -> bool:
        """True where EXIF has programs that show pictures turn or mirror the pixels."""
        with self._lock, session():
            orientation = self._dataset.tags().get("EXIF_Orientation", "1")
        return orientation in _TURNED

    @property
    def files(self) -> tuple[str, ...]:
        """Files the raster is made of: itself, side files, the sources of a VRT with theirs."""
        with self._lock, session():
            return files_of(self._dataset, _open)

    @property
    def levels(self) -> tuple[Level, ...]:
        """The raster itself, then its overviews from fine to coarse.

        Raises:
            RasterReadError: An overview that the header names cannot be opened.
        """
        if self._levels is None:
            native = Level(self.grid.width, self.grid.height, 1.0, 1.0, centred=False)
            self._levels = (native, *self._overview_levels())
        return self._levels

    def _overview_levels(self) -> list[Level]:
        external = any(str(file).lower().endswith((".ovr", ".rrd")) for file in self._dataset.files)
        wavelets = self.driver.startswith("JP2") and not external
        levels = []
        for index, nominal in enumerate(self.overview_factors):
            try:
                with session(), _open(self.path, overview_level=index) as overview:
                    width, height = overview.width, overview.height
            except GDAL_ERRORS as error:
                raise RasterReadError(
                    f"{self.path}: overview {index + 1} cannot be opened: {reason(error)}; make "
                    "the overviews again with `gdaladdo`"
                ) from error
            # Wavelets halve from the first pixel on; averages share the raster's whole width.
            factor_x = float(nominal) if wavelets else self.grid.width / width
            factor_y = float(nominal) if wavelets else self.grid.height / height
            levels.append(Level(width, height, factor_x, factor_y, centred=wavelets))
        return levels

    def read(
        self, window: Window, *, bands: Sequence[int], level: Level | None = None
    ) -> NDArray[Any]:
        """Samples of some bands as the file holds them.

        Args:
            window: Pixels of `level`.
            bands: Band numbers, from 1.
            level: Where to read; the raster itself if None.

        Returns:
            (bands, height, width) array of the bands' common data type.

        Raises:
            RasterReadError: The file is damaged or truncated, or the connection was lost.
        """
        dtype = np.result_type(*(self.dtypes[band - 1] for band in bands))
        asked, shape, inner = self._request(window, level)
        with _naming(self.path, window, level), self._lock, session():
            samples: NDArray[Any] = self._dataset.read(
                list(bands),
                window=asked,
                out_shape=(len(bands), *shape),
                out_dtype=dtype,
                resampling=Resampling.nearest,
            )
        return samples[:, *inner]

    def read_mask(
        self, window: Window, *, band: int, level: Level | None = None
    ) -> NDArray[np.bool_]:
        """Mask of one band: (height, width), True = valid. Arguments and errors as for `read`."""
        flags = self.mask_flags[band - 1]
        shadowed = "nodata" in flags and "alpha" in self.colours  # GDAL's mask leaves alpha out
        quiet = _silent(NodataShadowWarning) if shadowed else nullcontext()
        asked, shape, inner = self._request(window, level)
        with _naming(self.path, window, level), quiet, self._lock, session():
            mask: NDArray[np.uint8] = self._dataset.read_masks(
                band, window=asked, out_shape=shape, resampling=Resampling.nearest
            )
        return mask[inner] > 0

    def _request(
        self, window: Window, level: Level | None
    ) -> tuple[RasterioWindow, tuple[int, int], tuple[slice, slice]]:
        """Raster window and output shape that GDAL answers with a level's own pixels.

        GDAL finds the overview by the ratio of the two sizes, and falls back to the raster for a
        mask that has no overviews. As it cuts sizes to whole pixels, small windows are enlarged.

        Returns:
            Raster window, its (rows, columns) in pixels of the level, and where `window` lies
            among these.
        """
        if level is None:
            asked = RasterioWindow(window.col_off, window.row_off, window.width, window.height)
            return asked, (window.height, window.width), (slice(None), slice(None))
        left, right = _enlarged(window.col_off, window.col_end, level.width)
        top, bottom = _enlarged(window.row_off, window.row_end, level.height)
        x, y = self.grid.width / level.width, self.grid.height / level.height
        asked = RasterioWindow(
            left * x,
            top * y,
            min(right * x, self.grid.width) - left * x,
            min(bottom * y, self.grid.height) - top * y,
        )
        rows = slice(window.row_off - top, window.row_end - top)
        cols = slice(window.col_off - left, window.col_end - left)
        return asked, (bottom - top, right - left), (rows, cols)

    def block_bytes(self) -> int:
        """Memory that one internal block takes in GDAL's cache, over all bands and the mask."""
        rows, cols = self.block_shape
        sizes = [_bytes_of(dtype) for dtype in self.dtypes] + [1]
        return rows * cols * sum(sizes) + len(sizes) * _BLOCK_HEAD_BYTES

    def reopen(self) -> "Raster":
        """The same raster through a handle of its own, for another thread.

        Raises:
            RasterError: The file is gone.
        """
        with session():
            dataset = _opened(self.path)
        return Raster(dataset, self._georeference, self.path)

    def close(self) -> None:
        """Close the file; reading afterwards is an error."""
        with self._lock, session():
            self._dataset.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _enlarged(start: int, stop: int, length: int) -> tuple[int, int]:
    """A run of at least `LEAST_OVERVIEW_READ_PX` pixels around another, within `length`."""
    wanted = min(max(stop - start, LEAST_OVERVIEW_READ_PX), length)
    first = min(start, length - wanted)
    return first, first + wanted


@contextmanager
def _silent(category: type[Warning]) -> Iterator[None]:
    """Ignore a warning of rasterio about what is dealt with here."""
    with _FILTERING, warnings.catch_warnings():
        warnings.simplefilter("ignore", category)
        yield


@contextmanager
def _naming(path: str, window: Window, level: Level | None) -> Iterator[None]:
    """Turn what GDAL raises while reading into a `RasterReadError` that names the window."""
    try:
        yield
    except GDAL_ERRORS as error:
        part = "the raster" if level is None else "an overview"
        raise RasterReadError(
            f"{path}: cannot read the {window.width} x {window.height} pixels of {part} at column "
            f"{window.col_off}, row {window.row_off}: {reason(error)}; the file may be damaged or "
            "cut short: check it with `gdalinfo -checksum`, copy it again"
        ) from error


def open_raster(
    path: str | os.PathLike[str], *, crs: str | None = None, pixel_coordinates: bool = False
) -> Raster:
    """Open anything GDAL reads: a local file, `https://`, `s3://`, `/vsizip/...`, a VRT.

    A raster without any georeference opens, with a grid in pixel coordinates. One with a broken
    georeference does not, unless `pixel_coordinates` allows to ignore it.

    Args:
        path: File, URL or GDAL path.
        crs: CRS to assign where the file has none, such as `EPSG:32633`.
        pixel_coordinates: Allow a raster whose georeference cannot be used.

    Raises:
        RasterError: Nothing is there, it is no raster, or it has no bands.
        GeoreferenceError: The georeference is broken, or `crs` contradicts the file.
    """
    if not isinstance(path, str | os.PathLike):
        raise RasterError(
            f"expected the path of one raster, got {shown(path)}; call once for each of several; "
            "an opened dataset has its path as `name`; pixels go to `load_model(...).detect_chip`"
        )
    text = os.fspath(path)
    with session():
        dataset = _opened(text)
        try:
            _refuse_unreadable(dataset, text)
            georeference = read_georeference(dataset, crs=crs, pixel_coordinates=pixel_coordinates)
            return Raster(dataset, georeference, text)
        except GeoRetinaError:
            dataset.close()
            raise
        except (*GDAL_ERRORS, AttributeError, KeyError, IndexError, TypeError) as error:
            dataset.close()
            raise RasterError(
                f"the header of {text} cannot be understood: {reason(error)}; check it with "
                "`gdalinfo`"
            ) from error


def _open(path: str, **options: Any) -> Any:  # noqa: ANN401  rasterio has no types
    with _silent(NotGeoreferencedWarning):
        return rasterio.open(path, sharing=False, **options)


def _opened(path: str) -> Any:  # noqa: ANN401  rasterio has no types
    try:
        return _open(path)
    except GDAL_ERRORS as error:
        raise RasterError(_cannot_open(path, error)) from error


def _cannot_open(path: str, error: BaseException) -> str:
    if not path:
        return "expected a raster file, got an empty name"
    is_local = "://" not in path and not path.startswith("/vsi")
    if is_local and Path(path).is_dir():
        return (
            f"{path} is a folder, expected one raster; name the file in it, or make one of many: "
            f"geo-retina mosaic {path} -o mosaic.vrt; `detect` searches plots that lie apart one "
            'by one where the output is named after each, as in -o "found/{name}.gpkg"'
        )
    after_drive = path[len(Path(path).drive) :]  # Windows has C: there; GDAL, for one, NETCDF:
    if is_local and ":" not in after_drive and not Path(path).exists():
        if set(path) & set("*?["):
            return (
                f"{path} is a pattern of names, expected one raster; make one of many: "
                f'geo-retina mosaic "{path}" -o mosaic.vrt'
            )
        return f"{path} does not exist; expected a raster file"
    why = reason(error)
    is_other_format = "recognized" in why  # else it is the server or the path
    licensed = _LICENSED_FORMATS.get(Path(path).suffix.lower())
    if is_other_format and licensed is not None:
        return (
            f"{path} is {licensed}, a licensed format that this GDAL cannot open; convert it where "
            "GDAL has its driver (QGIS by OSGeo4W, ArcGIS, the vendor's tools): "
            f"`gdal_translate -of COG {path} out.tif`"
        )
    if is_local and Path(path).suffix.lower() == ".zip":
        remedy = f"it is an archive: name the raster in it, as in /vsizip/{path}/NAME.tif"
    elif not is_local and not is_other_format:
        remedy = "check the address, or download the file and name that"
    else:
        remedy = (
            "expected a format that GDAL reads (GeoTIFF, JPEG 2000, PNG, VRT...), check it with "
            "`gdalinfo`"
        )
    return f"{path} cannot be opened as a raster: {why}; {remedy}"


def _refuse_unreadable(dataset: Any, path: str) -> None:  # noqa: ANN401  rasterio has no types
    """Raise for files without bands and for headers whose claims cannot be true or cannot be met.

    A TIFF lists an offset for each of its blocks, so one with more blocks than bytes is damaged.
    """
    if dataset.count == 0:
        inner = "; it holds several, open one of: " + ", ".join(dataset.subdatasets[:5])
        raise RasterError(
            f"{path} has no bands of its own" + (inner if dataset.subdatasets else "")
        )
    rows, cols = dataset.block_shapes[0]
    block_bytes = rows * cols * _bytes_of(dataset.dtypes[0])
    if block_bytes > LARGEST_BLOCK_BYTES:
        raise RasterError(
            f"{path} stores blocks of {cols} x {rows} pixels, {block_bytes / 2**20:,.0f} MiB each; "
            f"at most {LARGEST_BLOCK_BYTES / 2**20:,.0f} MiB are read at once: store it in small "
            "blocks with `gdal_translate -of COG in.tif out.tif`"
        )
    blocks = -(-dataset.height // rows) * -(-dataset.width // cols)
    if dataset.driver == "GTiff" and Path(path).is_file() and blocks > Path(path).stat().st_size:
        raise RasterError(
            f"{path} claims {dataset.width} x {dataset.height} pixels in {blocks:,} blocks, more "
            f"than its {Path(path).stat().st_size:,} bytes can list; the file is damaged"
        )


def _bytes_of(dtype: str) -> int:
    """Bytes of a value of a type of GDAL's, one of which numpy lacks."""
    return 4 if dtype == "complex_int16" else np.dtype(dtype).itemsize
