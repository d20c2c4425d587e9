"""The raster files that labels belong to: where they lie and what grid they have."""

import glob
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path

from geo_retina.errors import GeoRetinaError, LabelError
from geo_retina.imagery.raster import open_raster
from geo_retina.space.grid import Grid
from geo_retina.wording import counted, listed

_CAMERA_SUFFIXES = (".jpg", ".jpeg")
"""Endings of the pictures in which EXIF says how the camera was held."""
RASTER_SUFFIXES = (".tif", ".tiff", ".vrt", ".png", ".jpg", ".jpeg", ".jp2", ".webp")
"""Endings under which an image is looked for when labels name it without one."""


def find_images(folder: str | PathLike[str], stems: Iterable[str]) -> list[str]:
    """Paths of the images called `stems` in `folder`, whatever their endings.

    Raises:
        LabelError: Of one there is none, or several.
    """
    files = defaultdict[str, list[Path]](list)
    for file in sorted(filter(is_image, Path(folder).glob("*"))):
        files[file.stem].append(file)
    return [_only_image(folder, stem, files[stem]) for stem in stems]


def _only_image(folder: str | PathLike[str], stem: str, found: Sequence[Path]) -> str:
    if len(found) != 1:
        what = "none" if not found else ", ".join(path.name for path in found)
        raise LabelError(
            f"{folder}: expected one image called {stem} with one of the endings "
            f"{' '.join(RASTER_SUFFIXES)}, found {what}"
        )
    return str(found[0])


def list_images(source: str | PathLike[str]) -> list[str]:
    """Images of a folder in alphabetical order, those of a pattern, or the file that `source` is.

    Args:
        source: Folder, pattern such as `plots/NIWO_*.tif`, file, URL or GDAL path.

    Raises:
        LabelError: The folder holds no image, or no image fits the pattern.
    """
    path = Path(source)
    if glob.has_magic(str(source)) and "://" not in str(source) and not path.exists():
        return _fitting_images(str(source))
    if not path.is_dir():
        return [str(source)]
    images = [str(file) for file in sorted(path.iterdir()) if is_image(file)]
    if not images:
        raise LabelError(f"{path}: expected images ({' '.join(RASTER_SUFFIXES)}), found none")
    return images


def files_ending(folder: Path, suffix: str, *, below: bool = False) -> list[Path]:
    """Files of a folder with an ending, also in capitals, in alphabetical order.

    Args:
        folder: May be missing: no files.
        suffix: In small letters, such as `.txt`.
        below: Those of the folders below, too.
    """
    places = folder.rglob("*") if below else folder.glob("*")
    return sorted(file for file in places if file.suffix.lower() == suffix)


def refuse_strays(
    files: Iterable[Path], images: Sequence[str], image_folder: str | PathLike[str]
) -> None:
    """Complain about label files that have no image, unless `image_folder` chooses some images.

    Raises:
        LabelError: There are such files; a folder holds all images.
    """
    stems = {Path(image).stem for image in images}
    lost = sorted(file.name for file in files if file.stem not in stems)
    if lost and Path(image_folder).is_dir():
        raise LabelError(f"no image in {image_folder} for {listed(lost)}")


def refuse_twins(
    claims: Iterable[tuple[str, Path | None]], *, image_folder: str | PathLike[str]
) -> None:
    """Complain about a label file that several images would get, such as `a.png` and `a.tif`.

    Args:
        claims: Each image with its label file, None for an image without.
        image_folder: As it was stated, for the error's text.

    Raises:
        LabelError: There is such a file: nothing tells whose it is.
    """
    owners: dict[Path, str] = {}
    for image, file in claims:
        other = image if file is None else owners.setdefault(file, image)
        if other != image and Path(other).resolve() != Path(image).resolve():
            raise LabelError(
                f"{image_folder}: expected one image for {file}, got {other} and {image}; remove "
                'one, or choose the images by a pattern: --images "images/*.tif" (images in a '
                "recipe)"
            )


def refuse_other_size(
    stated: Mapping[str, tuple[int, int]], *, source: str | PathLike[str]
) -> None:
    """Complain about labels that were drawn on a smaller, larger or turned copy of their image.

    Args:
        stated: Width and height of each image in pixels, by its path, as the labels say; 0 where
            they do not. Images that cannot be opened are passed over: who needs them says why.
        source: The labels' file or folder, for the error's text.

    Raises:
        LabelError: An image has another size.
    """
    for raster, size in stated.items():
        if min(size) <= 0 or not Path(raster).is_file():
            continue
        try:
            grid = read_grid(raster, pixel_coordinates=True)
        except GeoRetinaError:
            continue
        if size != (grid.width, grid.height):
            refuse_turned([raster], source=source)
            raise LabelError(
                f"{source}: says that {raster} has {size[0]} x {size[1]} px, it has {grid.width} x "
                f"{grid.height}: the boxes were drawn on a copy of another size, or turned; state "
                "the folder of those images with --images (images in a recipe), or, if the boxes "
                "are pixels of this one, correct width and height in the labels"
            )


def refuse_turned(rasters: Iterable[str], *, source: str | PathLike[str]) -> None:
    """Complain about labels in pixels of pictures that EXIF turns or mirrors where they are shown.

    Annotation programs show and count the pixels turned; here they are read as they are stored.

    Args:
        rasters: Paths. Those that cannot be opened are passed over: who needs them says why.
        source: The labels' file or folder, for the error's text.

    Raises:
        LabelError: There is such a picture.
    """
    cameras = [path for path in rasters if Path(path).suffix.lower() in _CAMERA_SUFFIXES]
    turned = [path for path in cameras if Path(path).is_file() and _is_turned(path)]
    if turned:
        raise LabelError(
            f"{source}: expected upright images, got {counted(len(turned), 'image')} with labels "
            f"that EXIF turns or mirrors, such as {turned[0]}: programs that show them do so, here "
            "pixels are read as they are stored, and boxes would lie elsewhere; store the images "
            "as they are shown (`mogrify -auto-orient`), or, if the boxes belong to the stored "
            "pixels, remove the tag (`exiftool -Orientation=`)"
        )


def _is_turned(raster: str) -> bool:
    try:
        with open_raster(raster, pixel_coordinates=True) as opened:
            return opened.shown_turned
    except GeoRetinaError:
        return False


def read_lines(file: Path, *, of: str) -> list[str]:
    """Lines of a text file in UTF-8.

    Args:
        file: The file.
        of: What its lines hold, for the error's text.

    Raises:
        LabelError: It cannot be read, or is no such text.
    """
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(f"{file}: expected a text file of {of}, in UTF-8: {error}") from error


def read_grid(
    raster: str | PathLike[str], *, crs: str | None = None, pixel_coordinates: bool = False
) -> Grid:
    """Grid of a raster file; without a CRS, world coordinates are its pixels.

    Args:
        raster: File, URL or GDAL path.
        crs: CRS to assign where the file has none.
        pixel_coordinates: Allow a raster whose georeference cannot be used.

    Raises:
        RasterError: The file is missing or no raster.
        GeoreferenceError: Its georeference is broken, or `crs` contradicts the file.
    """
    with open_raster(raster, crs=crs, pixel_coordinates=pixel_coordinates) as opened:
        return opened.grid


def _fitting_images(pattern: str) -> list[str]:
    paths = map(Path, sorted(glob.glob(pattern, recursive=True)))  # noqa: PTH207  may be absolute
    found = [str(path) for path in paths if is_image(path)]
    if not found:
        raise LabelError(f"no image ({' '.join(RASTER_SUFFIXES)}) fits the pattern {pattern}")
    return found


def is_image(path: Path) -> bool:
    """Whether a file is an image, by its ending."""
    return path.suffix.lower() in RASTER_SUFFIXES
