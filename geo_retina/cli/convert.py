"""`geo-retina convert`: a checkpoint of torchvision's or DeepForest's RetinaNet as one of ours."""

from pathlib import Path
from typing import Annotated

import typer

from geo_retina.cli.reporting import exit_codes


def convert(
    weights: Annotated[
        Path,
        typer.Argument(help="Weights: .pth, .pt, .safetensors, or .ckpt of Lightning."),
    ],
    described: Annotated[
        Path,
        typer.Option(
            "--as", help="TOML file with a [card], and [anchors] if they are not torchvision's."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--output", "--out", "-o", help="Checkpoint to write, .safetensors.")
    ],
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No logs.")] = False,
) -> None:
    """Convert a RetinaNet of torchvision or DeepForest."""
    with exit_codes(quiet=quiet):
        from geo_retina.config import load_settings
        from geo_retina.detection.paths import refuse_overwriting
        from geo_retina.errors import OutputError
        from geo_retina.model.checkpoint import SUFFIX, save_checkpoint
        from geo_retina.model.convert import ConvertedModel, convert_state_dict
        from geo_retina.model.state_dict import read_state_dict
        from geo_retina.whole_files import check_place

        if out.suffix != SUFFIX:
            raise OutputError(f"expected a name that ends in {SUFFIX}, got {out}")
        refuse_overwriting([weights, described], [out])
        check_place(out)
        model = load_settings(described, ConvertedModel)
        network = convert_state_dict(
            read_state_dict(weights), anchors=model.anchors, batch_norm_eps=model.batch_norm_eps
        )
        save_checkpoint(out, network, model.card)
        print(f"written  {out}")
