"""What `geo-retina evaluate` says of the detections and labels that it compares."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geo_retina.evaluation.about import About
    from geo_retina.evaluation.pairs import Pair
    from geo_retina.labels.choice import LabelChoice
    from geo_retina.training.recipe_side import RecipeSide


def of_model(name: str, known: "LabelChoice", pairs: "list[Pair]", data: Path) -> "About":
    """A model on labels that were named."""
    from geo_retina.evaluation.about import About
    from geo_retina.evaluation.doubts import unlabelled_rasters
    from geo_retina.evaluation.seen import cautions
    from geo_retina.model.checkpoint import read_info
    from geo_retina.training import learned_from

    info = read_info(name)
    folder = None if data == Path() else data
    seen = learned_from.known_rasters(name, pairs, labels=known.source.path, data=folder)
    return About(
        name=info.card.name,
        model=str(info.path),
        labels=known.source.path,
        part=_part(known),
        cautions=(*cautions(pairs, seen), *unlabelled_rasters(pairs)),
    )


def of_recipe_side(
    name: str, side: "RecipeSide", pairs: "list[Pair]", data: Path, score: float | None
) -> "About":
    """A model on a side of its own recipe, with the score that the user stated, if any."""
    from geo_retina.evaluation.about import BEFOREHAND, About
    from geo_retina.evaluation.doubts import unlabelled_rasters
    from geo_retina.evaluation.seen import cautions, known_raster
    from geo_retina.labels.splits import TRAIN, VAL
    from geo_retina.model.checkpoint import read_info
    from geo_retina.training import learned_from

    info = read_info(name)
    stated, is_val = score is not None, side.split == VAL
    learned = [item for item in learned_from.rasters_of_run(info) if item.side == TRAIN]
    if side.split == TRAIN:
        learned = [known_raster(item.labelled, TRAIN, sure=True) for item in side.rasters]
    changed = cautions(pairs, learned)  # the data are others now, and are divided otherwise
    weights = learned_from.weights_caution(side.settings) if stated and is_val else []
    return About(
        name=info.card.name,
        model=str(info.path),
        labels=f"the {side.split} side of its recipe, paths from {data.absolute()}",
        score_origin=learned_from.score_origin(side.settings)
        if is_val and not stated
        else BEFOREHAND,
        cautions=(*changed, *weights, *unlabelled_rasters(pairs)),
    )


def of_file(detections: str, known: "LabelChoice", pairs: "list[Pair]") -> "About":
    """A file of detections on labels."""
    from geo_retina.evaluation.about import About
    from geo_retina.evaluation.doubts import missing_entries, unlabelled_rasters

    return About(
        name=Path(detections).name,
        detections=detections,
        labels=known.source.path,
        part=_part(known),
        cautions=(*missing_entries(pairs), *unlabelled_rasters(pairs)),
    )


def _part(known: "LabelChoice") -> str:
    """Which of the labelled rasters were chosen; empty = all."""
    chosen = {"split": known.split, "only": known.only}
    return ", ".join(f"{name} {value}" for name, value in chosen.items() if value is not None)


def scores(model: str | None, stated: float | None) -> dict[str, Any]:
    """Arguments of `evaluate_detections`: the score that is stated, or those of a model's card."""
    from geo_retina.model.checkpoint import read_info

    if model is None or stated is not None:
        return {"score": stated}
    card = read_info(model).card
    return {"score": card.score, "class_scores": card.class_scores}
