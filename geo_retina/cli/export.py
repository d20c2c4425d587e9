"""`geo-retina export`: a checkpoint in, graphs that run without torch out."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geo_retina import defaults
from geo_retina.cli import detect_options as shared
from geo_retina.cli import export_int8 as int8
from geo_retina.cli import label_options as options
from geo_retina.cli.reporting import band_numbers, exit_codes, refuse_given

if TYPE_CHECKING:
    from geo_retina.model.checkpoint import CheckpointInfo


class Target(StrEnum):
    """What a checkpoint is exported to."""

    ONNX = "onnx"
    FP32 = "openvino-fp32"
    INT8 = "openvino-int8"


_INT8 = "For openvino-int8"
_MOST_CHIPS = 128


def export(
    model: Annotated[
        str, typer.Argument(help="Name of a bundled model, or path of a checkpoint.")
    ] = defaults.MODEL,
    to: Annotated[
        list[Target] | None, typer.Option(help="What to write; repeatable. [default: onnx]")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "--out",
            "-o",
            help="Folder to write to. [default: the checkpoint's; of a bundled model, the current "
            "one]",
        ),
    ] = None,
    calibrate: Annotated[
        list[Path] | None,
        typer.Option(
            help="Raster, or folder of rasters, to calibrate int8 with; repeatable.",
            rich_help_panel=_INT8,
        ),
    ] = None,
    chips: Annotated[
        int, typer.Option(min=1, help="Most chips to calibrate with.", rich_help_panel=_INT8)
    ] = _MOST_CHIPS,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the data that the model was trained with, in place of --calibrate and "
            "--labels: calibrates with train and measures on val of its recipe.",
            rich_help_panel=_INT8,
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="Labels to measure the loss of accuracy on, any known format.",
            rich_help_panel=_INT8,
        ),
    ] = None,
    images: options.Images = None,
    label_format: options.Format = None,
    only: options.Only = None,
    split: options.Split = None,
    distance_m: Annotated[
        float | None,
        typer.Option(
            help="Match centres up to so many metres apart, not boxes.", rich_help_panel=_INT8
        ),
    ] = None,
    bands: shared.Bands = None,
    scale: shared.Scale = None,
    stretch: shared.Stretch = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No logs.")] = False,
) -> None:
    """Export a model to ONNX, or to OpenVINO graphs for `detect`.

    `detect` finds graphs beside the checkpoint. It takes an int8 graph by default only if its loss
    of accuracy was measured here, by --data or --labels, and is small.
    """
    with exit_codes(quiet=quiet):
        from geo_retina.imagery.read_options import ReadOptions
        from geo_retina.model.checkpoint import read_info

        info, targets = read_info(model), to or [Target.ONNX]
        stated = {
            "--calibrate": calibrate,
            "--labels": labels,
            "--images": images,
            "--format": label_format,
            "--only": only,
            "--split": split,
            "--distance-m": distance_m,
            "--bands": bands,
            "--scale": scale,
            "--stretch": stretch,
        }
        _check_options(targets, stated, data, chips)
        if out is not None:
            _make_folder(out)
        work = None
        if data is not None:
            work = int8.by_recipe(info, data, most_chips=chips)
        elif calibrate:
            labelled = None
            if labels is not None:
                labelled = options.label_choice(
                    labels,
                    images,
                    label_format=label_format,
                    point_size_m=distance_m,
                    only=only,
                    split=split,
                )
            reading = ReadOptions(
                bands=band_numbers(bands), scale=scale, stretch=stretch, pixel_coordinates=True
            )
            work = int8.as_stated(
                info, calibrate, labelled, reading, most_chips=chips, distance_m=distance_m
            )
        _require_libraries(targets)
        if Target.ONNX in targets:
            _export_onnx(info, out or _folder(info, Target.ONNX))
        if Target.FP32 in targets:
            _export_fp32(info, out or _folder(info, Target.FP32))
        if work is not None:
            int8.write(info, out or _folder(info, Target.INT8), work)
        if set(targets) != {Target.ONNX}:
            _tell_place(info, out or _folder(info, Target.FP32))


def _check_options(
    targets: list[Target], stated: Mapping[str, object], data: Path | None, chips: int
) -> None:
    """Refuse options that have no effect, and int8 without what it needs.

    Raises:
        ConfigError: An option would have no effect, or int8 has nothing to be calibrated with.
    """
    from geo_retina.errors import ConfigError

    if Target.INT8 not in targets:
        idle = {**stated, "--data": data, "--chips": chips != _MOST_CHIPS}
        refuse_given(idle, "for --to openvino-int8 alone; add it")
    elif data is not None:
        refuse_given(stated, "the recipe in the checkpoint says so; leave it out, or --data")
    elif not stated["--calibrate"]:
        raise ConfigError(
            "--to openvino-int8 needs --data FOLDER, the data that the model was trained with, or "
            "--calibrate FOLDER, rasters like those that will be searched; got neither"
        )


def _require_libraries(targets: "list[Target]") -> None:
    """Raise for what the last of several exports lacks before minutes of the others."""
    from geo_retina.model.export import require

    if Target.INT8 in targets:
        require("nncf")


def _make_folder(path: Path) -> None:
    """Make the folder to write to.

    Raises:
        OutputError: It cannot be made.
    """
    from geo_retina.errors import OutputError

    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {path}: {error}") from error


def _folder(info: "CheckpointInfo", target: Target) -> Path:
    """Where to write unasked: beside the checkpoint, but not into an installed package.

    Of a bundled model only the graphs that `detect` takes go beside it, and only where the package
    is a source checkout, which whoever makes the graphs that ship works in.
    """
    from geo_retina.model.checkpoint import bundled_models

    weights = info.path.parent
    if info.path not in bundled_models().values():
        return weights
    is_checkout = (weights.parents[2] / "pyproject.toml").is_file()  # geo_retina/model/weights
    return weights if is_checkout and target is not Target.ONNX else Path()


def _tell_place(info: "CheckpointInfo", folder: Path) -> None:
    if folder.resolve() != info.path.parent.resolve():
        print(
            f"note     detect looks for graphs beside the checkpoint: have it in {folder.resolve()}"
            f" too and name it by --model, or export with --out {info.path.parent}"
        )


def _export_onnx(info: "CheckpointInfo", folder: Path) -> None:
    from geo_retina.model.export import export_onnx

    path = folder / f"{info.path.stem}.onnx"
    export_onnx(info, path)
    int8.tell_written(path)


def _export_fp32(info: "CheckpointInfo", folder: Path) -> None:
    from geo_retina.model.artifacts import Artifact, artifact_path, network_hash
    from geo_retina.model.export import export_openvino, write_openvino

    path = artifact_path(info.path, "fp32", folder=folder)
    write_openvino(export_openvino(info), Artifact(path, "fp32", network_hash(info)))
    int8.tell_written(path)
