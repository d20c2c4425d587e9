"""Which bands of a raster are those a model needs: stated or named, never guessed."""

from collections.abc import Sequence
from dataclasses import dataclass

from geo_retina.errors import BandError
from geo_retina.imagery.raster import Raster
from geo_retina.wording import counted

_SYNONYMS = {
    "nearinfrared": "nir",
    "infrared": "nir",
    "grey": "gray",
    "panchromatic": "pan",
    "rededge1": "rededge",
}
_COLOURS = {"red", "green", "blue", "coastal", "yellow", "rededge", "nir", "swir", "pan", "tir"}
_TELLS_NOTHING = {"", "undefined", "gray", "palette", "alpha"}


@dataclass(frozen=True, slots=True)
class BandChoice:
    """Bands to read, in the order of the model's inputs."""

    numbers: tuple[int, ...]
    """Band numbers, from 1."""
    alpha: int | None
    """Number of the band that is a mask; None without one, or where it was asked for as input."""


def choose_bands(
    raster: Raster, needed: Sequence[str], *, numbers: Sequence[int] | None = None
) -> BandChoice:
    """Bands of `raster` for the inputs `needed`.

    Stated numbers win. Otherwise, the bands' names (descriptions, else colour interpretation) are
    taken if they identify every input. Otherwise, the file's order is taken if it has exactly the
    needed number of bands (alpha aside) and no name contradicts it.

    Args:
        raster: The raster.
        needed: What each input of the model holds, such as `("red", "green", "blue")`.
        numbers: Band numbers, from 1, in the order of `needed`.

    Raises:
        BandError: The stated numbers do not fit, nothing says which bands to take, or the raster
            is a paletted image.
    """
    _refuse_palette(raster)
    names = band_names(raster)
    alpha = _alpha_band(raster, names)
    if numbers is not None:
        stated = _checked(raster, needed, numbers)
        return BandChoice(stated, None if alpha in stated else alpha)
    candidates = [band for band in range(1, raster.band_count + 1) if band != alpha]
    wanted = [_plain(name) for name in needed]
    found = [[band for band in candidates if names[band - 1] == name] for name in wanted]
    if all(len(places) == 1 for places in found):
        return BandChoice(tuple(places[0] for places in found), alpha)
    contradicted = any(
        names[band - 1] not in {name, *_TELLS_NOTHING}
        for band, name in zip(candidates, wanted, strict=False)
    )
    if len(candidates) == len(needed) and not contradicted:
        return BandChoice(tuple(candidates), alpha)
    raise BandError(_unclear(raster, needed, alpha))


def band_names(raster: Raster) -> tuple[str, ...]:
    """Plain name of each band: its description where any band is described, else its colour.

    Descriptions that name no colour (`Band 1`) count as none.
    """
    described = tuple(_plain(text) for text in raster.descriptions)
    coloured = tuple(_plain(name) for name in raster.colours)
    return described if _COLOURS & set(described) else coloured


def _alpha_band(raster: Raster, names: Sequence[str]) -> int | None:
    """Number of the first band tagged alpha; a description that names a colour outdoes the tag.

    GDAL tags the fourth band of an 8-bit GeoTIFF alpha unless its writer said otherwise.
    """
    for band, (colour, name) in enumerate(zip(raster.colours, names, strict=True), start=1):
        if colour == "alpha" and name not in _COLOURS:
            return band
    return None


def _plain(name: str) -> str:
    letters = "".join(letter for letter in name.casefold() if letter.isalnum())
    return _SYNONYMS.get(letters, letters)


def _checked(raster: Raster, needed: Sequence[str], numbers: Sequence[int]) -> tuple[int, ...]:
    if len(numbers) != len(needed):
        raise BandError(
            f"the model needs {len(needed)} bands ({', '.join(needed)}), --bands names "
            f"{len(numbers)}: {list(numbers)}; name one band number for each"
        )
    wrong = [number for number in numbers if not 1 <= number <= raster.band_count]
    if wrong:
        raise BandError(
            f"--bands names band {wrong[0]}, {raster.path} has bands 1 to {raster.band_count}"
        )
    return tuple(int(number) for number in numbers)


def _refuse_palette(raster: Raster) -> None:
    if raster.colours[0] == "palette":
        raise BandError(
            f"{raster.path} is a paletted image: its values are numbers of colours, not "
            "brightness; expand it first: `gdal_translate -expand rgb in.tif out.tif`"
        )


def _unclear(raster: Raster, needed: Sequence[str], alpha: int | None) -> str:
    names = band_names(raster)
    listed = ", ".join(f"{band} {name or 'unnamed'}" for band, name in enumerate(names, start=1))
    masked = f" Band {alpha} is tagged alpha and taken for a mask." if alpha is not None else ""
    remedy = "Say which to take, in the model's order, with --bands and their numbers, from 1"
    if raster.band_count < len(needed):
        remedy = "They are too few: take a raster that has all (--bands may name a band twice)"
    return (
        f"the model needs the bands {', '.join(needed)}; {raster.path} has "
        f"{counted(raster.band_count, 'band')}: {listed}.{masked} {remedy}"
    )
