"""What options of `geo-retina evaluate` may stand beside which: told before any work starts."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geo_retina.cli import detect_options as shared
from geo_retina.cli import label_options as options
from geo_retina.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from geo_retina.labels.choice import LabelChoice


def sources(
    labels: str | None, model: str | None, detections: str | None, calibrated: Path | None
) -> None:
    """Refuse options that contradict each other, before any work starts."""
    if model is not None and detections is not None:
        raise ConfigError("--model and --detections exclude each other; pass one of them")
    if calibrated is not None and detections is not None:
        raise ConfigError("--calibrated needs a model to calibrate, not --detections")
    if labels is None and (model is None or detections is not None):
        raise ConfigError(
            "--labels is missing; only a --model that carries its recipe can do without"
        )


def rule(iou: float | None, distance_m: float | None, score: float | None) -> None:
    """Refuse two rules, and a score that is none."""
    from geo_retina.evaluation.evaluate import check_score

    check_score(score)
    if iou is not None and distance_m is not None:
        raise ConfigError("--iou and --distance-m exclude each other; pass one of them")


def size_bounds(sizes_m: str | None, sizes_px: str | None) -> dict[str, Any]:
    """Fields of `EvaluationOptions` for ranges of sizes; none where neither option is given."""
    if sizes_m is not None and sizes_px is not None:
        raise ConfigError("--sizes-m and --sizes-px exclude each other; pass one of them")
    if sizes_m is not None:
        return {"size_bounds_m": _number_list(sizes_m, "--sizes-m")}
    if sizes_px is not None:
        return {"size_bounds_px": _number_list(sizes_px, "--sizes-px")}
    return {}


def outputs(
    report: Path | None,
    as_json: Path | None,
    calibrated: Path | None,
    *,
    read: Sequence[str | Path | None],
) -> None:
    """Refuse outputs that cannot be written, or would replace what is read or each other."""
    from geo_retina.detection.paths import refuse_overwriting
    from geo_retina.model.checkpoint import SUFFIX
    from geo_retina.whole_files import check_place

    refuse_overwriting(read, [report, as_json, calibrated])
    for path in (report, as_json, calibrated):
        if path is not None:
            check_place(path, ending=SUFFIX if path is calibrated else None)
    if report is None:
        return
    if report.suffix.lower() != ".html":
        raise OutputError(
            f"--report writes a page: expected a name that ends in .html, got {report}"
        )
    from geo_retina.evaluation.report import ReportFiles

    beside = ReportFiles(report)
    refuse_overwriting(read, [beside.json])
    beside.refuse_foreign()


def without_labels(reading: dict[str, Any], known: "LabelChoice") -> None:
    """Without --labels all that says how labels and rasters are read comes from the recipe."""
    from geo_retina.detection.options import DetectOptions

    given = shared.flags_given(reading, DetectOptions())
    if known != options.label_choice("", split=known.split):
        given.append("options for reading labels (--images, --only, --format...)")
    if given:
        raise ConfigError(
            f"{', '.join(given)}: need --labels; without it, labels and rasters are read as the "
            "recipe in the checkpoint says"
        )


def data_folder(data: Path, labels: str | None, detections: str | None) -> None:
    """Beside --labels, refuse a data folder that is not there, or that nothing is read from."""
    if data == Path() or labels is None:
        return
    if detections is not None:
        raise ConfigError("--data is for a model that carries its recipe; leave it out")
    if not data.is_dir():
        raise ConfigError(f"--data {data}: expected the folder that the recipe's paths start from")


def with_detections(options: dict[str, Any], work: dict[str, Any]) -> None:
    """Where a file says what was found, nothing is detected.

    Args:
        options: Fields of `DetectOptions`.
        work: Fields of `Detecting`.
    """
    from geo_retina.detection.options import DetectOptions
    from geo_retina.evaluation.runs import Detecting

    for_files_too = ("raster_crs", "class_agnostic")
    options = {key: value for key, value in options.items() if key not in for_files_too}
    given = shared.flags_given(options, DetectOptions()) + shared.flags_given(work, Detecting())
    if given:
        raise ConfigError(f"{', '.join(given)}: for a model that detects, not for --detections")


def undecayed(finding: dict[str, Any]) -> dict[str, Any]:
    """How to find objects so that their scores are the network's own."""
    from geo_retina.detection.options import DetectOptions

    changing = {name: finding[name] for name in ("method", "decay_iou")}
    if shared.flags_given(changing, DetectOptions()):
        raise ConfigError(
            "--calibrated maps the network's own scores; leave --method and --decay-iou out"
        )
    return finding | {"decay_iou": 1.0}


def run_as_copy(work: dict[str, Any]) -> dict[str, Any]:
    """How to run a network as its calibrated copy will: that has no graphs yet."""
    return work | {"backend": "torch"} if work["backend"] == "auto" else work


def _number_list(text: str, option: str) -> tuple[float, ...]:
    """Numbers from a text such as `3,6`.

    Raises:
        ConfigError: The text is something else.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"{option} takes numbers such as 3,6, got {text!r}") from error
