"""What a training leaves: the model to use, its card filled in."""

import logging
from pathlib import Path

from geo_retina.card import DataSource, ModelCard
from geo_retina.model.checkpoint import load_network, read_info, save_checkpoint
from geo_retina.model.retinanet import RetinaNet
from geo_retina.training.settings import TrainingSettings
from geo_retina.training.validation import BEST_NAME, LAST_NAME
from geo_retina.wording import scores_text

_log = logging.getLogger(__name__)


def told_card(settings: TrainingSettings) -> ModelCard:
    """The recipe's card, with its data and its command where it does not tell them itself."""
    card = settings.card
    sources = [(source, "train") for source in settings.train]
    sources += [(source, "val") for source in settings.val]
    found = [
        DataSource(
            name=source.name, role=role, licence=source.licence, attribution=source.attribution
        )
        for source, role in sources
    ]
    changes: dict[str, object] = {}
    if not card.trained_on:
        changes["trained_on"] = [item.model_dump() for item in found]
    if not card.reproduce:
        changes["reproduce"] = (
            "geo-retina models CHECKPOINT --recipe > recipe.json; geo-retina train recipe.json"
        )
    return ModelCard.model_validate(card.model_dump() | changes)


def write_model(
    path: Path, network: RetinaNet, card: ModelCard, settings: TrainingSettings, *, measured: bool
) -> None:
    """Write the model.

    Args:
        path: Where to; the run folder is its folder.
        network: The weights at the end.
        card: Without metrics.
        settings: The recipe.
        measured: Whether val was measured: then the recipe says which weights are taken, and their
            card has the metrics and the score.

    Raises:
        OutputError: It cannot be written.
    """
    if measured:
        name = BEST_NAME if settings.validation.keep == "best" else LAST_NAME
        info = read_info(path.parent / name)
        _tell_score(info.card, known=len(card.metrics))
        if settings.validation.calibrate and info.card.calibrated is None:
            _log.warning(
                "the scores are not calibrated (validation.calibrate): it needs some hits and some "
                "misses on val, and higher scores must be right more often"
            )
        network, card = load_network(info), info.card
    save_checkpoint(path, network, card, recipe=settings.model_dump_json())


def _tell_score(card: ModelCard, *, known: int) -> None:
    """Say which score val chose, or warn that it found nothing to choose by.

    Args:
        card: With what was measured.
        known: How many metrics the recipe's card had.
    """
    if any(metric.name == "best F1" and metric.value > 0 for metric in card.metrics[known:]):
        _log.info("val chose the score %s", scores_text(card.score, card.class_scores))
        return
    _log.warning(
        "val AP is 0: the model found nothing that is labelled there, and its score %.3f is the "
        "recipe's; train longer (schedule.steps), or see with `geo-retina labels check` whether "
        "the labels lie on their objects and card.gsd_m fits their size",
        card.score,
    )
