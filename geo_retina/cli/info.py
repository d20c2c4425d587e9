"""`geo-retina info` and `geo-retina plan`: what would be done, before doing it."""

import json
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geo_retina import defaults
from geo_retina.cli import detect_options as shared
from geo_retina.cli.groups import takes
from geo_retina.cli.reporting import (
    BAD_INPUT,
    exit_codes,
    megapixels,
    memory,
    one_line,
    print_lines,
)
from geo_retina.wording import counted, duration

if TYPE_CHECKING:
    from geo_retina.detection.plan import ModelView, WorkReport
    from geo_retina.imagery.facts import RasterFacts

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@takes(reading=shared.reading)
def info(
    raster: shared.Rasters,
    model: Annotated[
        str | None,
        typer.Option(
            help=f"Name of a bundled model, or path of a checkpoint. [default: {defaults.MODEL}]"
        ),
    ] = None,
    *,
    reading: Callable[[], dict[str, Any]],
    as_json: _Json = False,
) -> None:
    """Describe a raster, and how the model will read it.

    Exit codes: 0 done, 2 bad input, or a model that was named and cannot read the raster.
    """
    with exit_codes(quiet=True):
        from geo_retina.detection.options import DetectOptions
        from geo_retina.detection.plan import look_at

        path, name = shared.one_raster(raster), model or defaults.MODEL
        report = look_at(path, name, DetectOptions(**reading()))
        if as_json:
            print(json.dumps(report.to_dict(), indent=2, allow_nan=False))
        else:
            print_lines(_raster_lines(report.raster))
        if report.view is not None and not as_json:
            print_lines(_view_lines(report.view))
        if report.refusal is None:
            return
        refusal = one_line(f"{name} cannot read it: {report.refusal}")
        if model is not None:
            print(f"error: {refusal}", file=sys.stderr)
            raise typer.Exit(BAD_INPUT)
        if not as_json:
            print(f"\n{refusal}")


@takes(reading=shared.reading)
def plan(
    raster: shared.Rasters,
    model: Annotated[
        str, typer.Option(help="Name of a bundled model, or path of a checkpoint.")
    ] = defaults.MODEL,
    chip: shared.Chip = None,
    overlap: shared.Overlap = None,
    aoi: shared.Aoi = None,
    aoi_layer: shared.AoiLayer = None,
    *,
    reading: Callable[[], dict[str, Any]],
    device: shared.Device = "auto",
    backend: shared.Backend = "auto",
    as_json: _Json = False,
) -> None:
    """Estimate windows, memory and time of a detection."""
    with exit_codes(quiet=True):
        from geo_retina.detection.options import DetectOptions
        from geo_retina.detection.plan import estimate_work

        options = DetectOptions(
            chip_px=chip,
            overlap_px=overlap,
            aoi=aoi,
            aoi_layer=aoi_layer,
            **reading(),
        )
        path = shared.one_raster(raster)
        work = estimate_work(path, model, options, device=device, backend=backend)
        if as_json:
            print(json.dumps(work.to_dict(), indent=2))
        else:
            print_work(work)


def print_work(work: "WorkReport") -> None:
    """Print how much work a run is."""
    print_lines(_work_lines(work))


def _raster_lines(facts: "RasterFacts") -> Iterator[tuple[str, str]]:
    yield "raster", f"{facts.path} ({facts.driver})"
    yield "size", f"{_px(facts.width, facts.height)}, {megapixels(facts.megapixels)}"
    yield (
        "bands",
        ", ".join(
            f"{number} {name}" + (f" ({colour})" if colour != name else "")
            for number, (name, colour) in enumerate(
                zip(facts.bands, facts.colours, strict=True), start=1
            )
        ),
    )
    yield "data type", _each(facts.dtypes)
    yield "nodata", _each(tuple("none" if one is None else f"{one:g}" for one in facts.nodata))
    if facts.crs is None:
        yield "CRS", f"none: {one_line(facts.georeference_gap or '')}"
    else:
        yield "CRS", facts.crs + (f" ({facts.crs_code})" if facts.crs_code else "")
    if facts.transform is not None:
        yield "transform", ", ".join(f"{value:.12g}" for value in facts.transform)
    if facts.bounds is not None:
        sides = zip(("left", "bottom", "right", "top"), facts.bounds, strict=True)
        yield "bounds", ", ".join(f"{name} {value:.12g}" for name, value in sides)
    yield "GSD", "not known" if facts.gsd_m is None else _gsd(*facts.gsd_m)
    rows, columns = facts.block_shape
    yield "blocks", _px(columns, rows)
    yield "overviews", ", ".join(f"1:{factor}" for factor in facts.overview_factors) or "none"


def _view_lines(view: "ModelView") -> Iterator[tuple[str, str]]:
    yield "model", view.model
    yield "bands read", ", ".join(map(str, view.bands_read))
    yield "values shown", _each(tuple(f"{low:g} to {high:g}" for low, high in view.values_shown))
    where = "all, by its masks" if view.all_valid else "where its masks or nodata values say so"
    yield "valid", f"{where}; values not looked at"
    if view.resampled_to is not None:
        yield "resampled to", f"{_px(*view.resampled_to)}, the model's GSD"
    yield "chips", _chips(view.chip_px, view.overlap_px)
    yield "windows", f"{counted(view.windows, 'window')} in {counted(view.strips, 'row')}"
    yield "readers", counted(view.readers, "thread")


def _work_lines(work: "WorkReport") -> Iterator[tuple[str, str]]:
    about = " (told from a sample)" if work.is_estimate else ""
    yield "chips", _chips(work.chip_px, work.overlap_px)
    yield (
        "windows",
        f"{counted(work.windows, 'window')}, {work.windows_to_infer:,} to search{about}",
    )
    valid, to_infer = megapixels(work.valid_megapixels), megapixels(work.megapixels_to_infer)
    yield "pixels", f"{valid} valid; {to_infer} to compute, overlaps counted each time{about}"
    blocks = f"{memory(work.block_cache_mib)} of decoded blocks"
    if work.memory_mib is None:
        yield "memory", f"not known; up to {blocks}"
    else:
        yield "memory", f"about {memory(work.memory_mib)}, with up to {blocks}"
    yield "time", "not known" if work.minutes is None else duration(work.minutes * 60)


def _each(values: tuple[str, ...]) -> str:
    """What all bands have in common, or what each has."""
    return values[0] if len(set(values)) == 1 else ", ".join(values)


def _px(width: int, height: int) -> str:
    return f"{width:,} x {height:,} px"


def _chips(chip_px: int, overlap_px: int) -> str:
    return f"{chip_px:,} px, overlapping by {overlap_px:,} px"


def _gsd(x: float, y: float) -> str:
    sides = [f"{side:,.2f} m" if side >= 0.1 else f"{side:.3g} m" for side in (x, y)]  # noqa: PLR2004
    return sides[0] if sides[0] == sides[1] else " x ".join(sides)
