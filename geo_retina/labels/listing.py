"""Text files that name images, one a line: which of some labelled rasters to take."""

from collections.abc import Sequence
from pathlib import Path

from geo_retina.errors import LabelError
from geo_retina.labels.labels import LabelledRaster
from geo_retina.wording import counted, listed


def choose_listed(labelled: Sequence[LabelledRaster], listing: str | Path) -> list[LabelledRaster]:
    """The rasters that a text file names, with or without ending, in their own order.

    Raises:
        LabelError: The file cannot be read, names nothing, or names an image that is not there.
    """
    try:
        lines = Path(listing).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(
            f"{listing}: expected a text file with one image name a line: {error}"
        ) from error
    names = {Path(line.strip()).name for line in lines if line.strip()}
    chosen, known = [], set()
    for item in labelled:
        file = Path(item.raster)
        if names & {file.name, file.stem}:
            chosen.append(item)
            known |= {file.name, file.stem}
    lost = sorted(names - known)
    if lost or not names:
        raise LabelError(
            f"{listing} names {counted(len(names), 'image')}, {len(lost)} of them are not among "
            f"the {len(labelled)} labelled ones: {listed(lost) or 'it is empty'}"
        )
    return chosen
