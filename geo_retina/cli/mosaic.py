"""`geo-retina mosaic`: many raster files as one."""

from pathlib import Path
from typing import Annotated

import typer

from geo_retina.cli.bars import count_bar
from geo_retina.cli.reporting import exit_codes

_SEVERAL = 'Raster files, folders of them, or patterns such as "tiles/*.tif".'


def mosaic(
    rasters: Annotated[list[str], typer.Argument(help=_SEVERAL, metavar="RASTERS...")],
    out: Annotated[Path, typer.Option("--output", "--out", "-o", help="File to write, .vrt.")],
    raster_crs: Annotated[
        str | None, typer.Option(help="CRS of rasters that have none, such as EPSG:32633.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No logs, no progress bar.")] = False,
) -> None:
    """Join raster tiles into one raster, without copying a pixel.

    Objects at the border of two files are then found whole and once. The files must be of one grid:
    the same CRS, pixel size and bands. Where they overlap, the later one shows. Other mosaics in a
    folder are left out.
    """
    with exit_codes(quiet=quiet):
        from geo_retina.imagery.mosaic import write_mosaic
        from geo_retina.labels.files import list_images

        found = [(file, source) for source in rasters for file in list_images(source)]
        # a mosaic that lies among its tiles is none of them; one that is named is meant
        files = [file for file, source in found if file == source or not _is_mosaic(file)]
        with count_bar("reading headers", quiet=quiet) as on_progress:
            done = write_mosaic(files, out, crs=raster_crs, on_progress=on_progress)
        grid = done.grid
        name = "none" if grid.crs is None else grid.crs.name
        print(f"files    {done.files:,}")
        print(f"raster   {grid.width:,} x {grid.height:,} px, {name}")
        print(f"covered  {done.covered:.1%}")
        print(f"written  {out}")


def _is_mosaic(file: str) -> bool:
    return file.lower().endswith(".vrt")
