"""A VRT as GDAL reads it: where each of several files lies on one grid."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray

from geo_retina.space.grid import Grid

TYPES = {
    "uint8": "Byte",
    "int8": "Int8",
    "uint16": "UInt16",
    "int16": "Int16",
    "uint32": "UInt32",
    "int32": "Int32",
    "uint64": "UInt64",
    "int64": "Int64",
    "float32": "Float32",
    "float64": "Float64",
}
"""GDAL's names of data types."""


@dataclass(frozen=True, slots=True)
class Bands:
    """What all files of a mosaic must have in common besides their grid."""

    dtypes: tuple[str, ...]
    nodata: tuple[str | None, ...]
    """As text, for NaN is not equal to itself; None where a band has none."""
    colours: tuple[str, ...]
    descriptions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One of the files, as its header describes it."""

    path: str
    source: str
    """How GDAL calls it: a URL as `/vsicurl/...`."""
    grid: Grid
    bands: Bands
    block_shape: tuple[int, int]
    is_masked: bool
    """Whether there is a mask other than alpha and nodata."""


def vrt_tree(
    files: Sequence[SourceFile],
    places: NDArray[np.int64],
    grid: Grid,
    folder: Path,
    *,
    has_gaps: bool,
    has_overlaps: bool,
) -> ET.Element:
    """The VRT's tree: its grid, its bands, and a mask where gaps and masks of files need one.

    A band tagged alpha may be an infrared one: it decides which file shows, where they overlap, but
    gaps are told by a mask of their own.
    """
    root = ET.Element("VRTDataset", rasterXSize=str(grid.width), rasterYSize=str(grid.height))
    _add(root, "SRS", grid.crs.to_wkt() if grid.crs else "")
    transform = ", ".join(repr(float(value)) for value in grid.transform.to_gdal())
    _add(root, "GeoTransform", transform)
    placed = list(zip(files, places, strict=True))
    bands = files[0].bands
    has_alpha, is_masked = "alpha" in bands.colours, any(file.is_masked for file in files)
    for band, (dtype, nodata) in enumerate(zip(bands.dtypes, bands.nodata, strict=True), start=1):
        node = ET.SubElement(root, "VRTRasterBand", dataType=TYPES[dtype], band=str(band))
        _describe_band(node, files[0], band)
        for file, place in placed:
            source = _add_source(node, file, place, folder, band=str(band), dtype=dtype)
            if has_overlaps and (has_alpha or is_masked):
                _add(source, "UseMaskBand", "true")
            elif nodata is not None:
                _add(source, "NODATA", nodata)
    if is_masked or (has_gaps and None in bands.nodata):
        node = ET.SubElement(ET.SubElement(root, "MaskBand"), "VRTRasterBand", dataType="Byte")
        for file, place in placed:
            band_read = "mask,1" if is_masked else "1"
            source = _add_source(node, file, place, folder, band=band_read, dtype="uint8")
            if is_masked:
                _add(source, "UseMaskBand", "true")
            else:  # 255 whatever the pixel holds
                _add(source, "ScaleOffset", "255")
                _add(source, "ScaleRatio", "0")
    return root


def _describe_band(node: ET.Element, file: SourceFile, band: int) -> None:
    """Name, nodata value and colour of a band, as a file has them."""
    nodata, colour = file.bands.nodata[band - 1], file.bands.colours[band - 1]
    if file.bands.descriptions[band - 1]:
        _add(node, "Description", file.bands.descriptions[band - 1])
    if nodata is not None:
        _add(node, "NoDataValue", nodata)
    if colour != "undefined":
        _add(node, "ColorInterp", colour.capitalize())


def _add_source(
    node: ET.Element,
    file: SourceFile,
    place: NDArray[np.int64],
    folder: Path,
    *,
    band: str,
    dtype: str,
) -> ET.Element:
    source = ET.SubElement(node, "ComplexSource")
    path, is_relative = _written_path(file.source, folder)
    _add(source, "SourceFilename", path).set("relativeToVRT", str(int(is_relative)))
    _add(source, "SourceBand", band)
    width, height = str(file.grid.width), str(file.grid.height)
    rows, columns = file.block_shape
    ET.SubElement(  # with these GDAL opens a file only when it is read
        source,
        "SourceProperties",
        RasterXSize=width,
        RasterYSize=height,
        DataType=TYPES[dtype],
        BlockXSize=str(columns),
        BlockYSize=str(rows),
    )
    x, y = map(str, place.tolist())
    ET.SubElement(source, "SrcRect", xOff="0", yOff="0", xSize=width, ySize=height)
    ET.SubElement(source, "DstRect", xOff=x, yOff=y, xSize=width, ySize=height)
    return source


def _written_path(path: str, folder: Path) -> tuple[str, bool]:
    """A path as the VRT holds it, and whether that is relative to the VRT's folder."""
    if not Path(path).exists():
        return path, False
    absolute = Path(path).absolute()
    if absolute.is_relative_to(folder.absolute()):
        return absolute.relative_to(folder.absolute()).as_posix(), True  # Windows reads it too
    return os.fspath(absolute), False


def _add(node: ET.Element, name: str, text: str) -> ET.Element:
    child = ET.SubElement(node, name)
    child.text = text
    return child
