"""Which labels to read, and which of their rasters to take."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from geo_retina.errors import LabelError
from geo_retina.labels.files import read_lines
from geo_retina.labels.formats import LabelSource, read_labels
from geo_retina.labels.image_paths import refuse_missing_images
from geo_retina.labels.labels import LabelledRaster
from geo_retina.wording import counted, listed


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelChoice:
    """Labels to evaluate on, and which of their rasters."""

    source: LabelSource
    label_format: str | None = None
    """A key of `geo_retina.labels.formats.READERS`; None = told by the file."""
    only: str | Path | None = None
    """Text file that names the rasters to take, one a line; None = all."""
    split: str | None = None
    """Only rasters of this split; None = all."""

    @property
    def files(self) -> list[str | Path | None]:
        """Files and folders that were named; None for what was not."""
        source = self.source
        return [source.path, source.images, source.vector.area, self.only]

    def read(self) -> list[LabelledRaster]:
        """Read the labels of the chosen rasters.

        Raises:
            LabelError: They cannot be read, or none is left.
        """
        labelled = read_labels(self.source, label_format=self.label_format)
        refuse_no_rows(labelled, source=self.source.path)
        refuse_missing_images(labelled, source=self.source.path, some_may_lack=True)
        if self.only is not None:
            labelled = choose_listed(labelled, self.only)
        return choose_split(labelled, self.split, source=self.source.path)


def choose_listed(labelled: Sequence[LabelledRaster], listing: str | Path) -> list[LabelledRaster]:
    """The rasters that a text file names, with or without ending, in their own order.

    Of rasters that have one name, those in the folder that the file states are taken, if it states
    that of any.

    Raises:
        LabelError: The file cannot be read, names nothing, or names an image that is not there.
    """
    lines = read_lines(Path(listing), of="image names, one a line")
    paths = {Path(line.strip()) for line in lines if line.strip()}
    by_name: defaultdict[str, list[str]] = defaultdict(list)
    for raster in dict.fromkeys(item.raster for item in labelled):
        for name in {Path(raster).name, Path(raster).stem}:
            by_name[name].append(raster)
    lost = sorted(path.name for path in paths if path.name not in by_name)
    if lost or not paths:
        raise LabelError(
            f"{listing} names {counted(len(paths), 'image')}, {len(lost)} of them are not among "
            f"the {len(labelled)} labelled ones: {listed(lost) or 'it is empty'}"
        )
    chosen = {raster for path in paths for raster in _in_its_folder(by_name[path.name], path)}
    return [item for item in labelled if item.raster in chosen]


def _in_its_folder(rasters: Sequence[str], path: Path) -> Sequence[str]:
    """Those in a folder that ends as that of a path does; all where none is."""
    folder = path.parent.parts
    if not folder:
        return rasters
    inside = [raster for raster in rasters if Path(raster).parts[:-1][-len(folder) :] == folder]
    return inside or rasters


def refuse_no_rows(labelled: Sequence[LabelledRaster], *, source: str) -> None:
    """Complain about labels of no raster at all.

    Raises:
        LabelError: There is none.
    """
    if not labelled:
        raise LabelError(
            f"{source}: has no rows, so it names no raster; a raster without objects needs an "
            "entry too, in a CSV a row with empty coordinates"
        )


def choose_split(
    labelled: Sequence[LabelledRaster], split: str | None, *, source: str
) -> list[LabelledRaster]:
    """The rasters of one split, or all.

    Raises:
        LabelError: There are none.
    """
    chosen = [item for item in labelled if split in (None, item.split)]
    if not chosen:
        known = ", ".join(sorted({item.split or "(none)" for item in labelled}))
        raise LabelError(f"{source}: no raster belongs to the split {split!r}; known: {known}")
    return chosen
