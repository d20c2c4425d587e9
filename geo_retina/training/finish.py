"""What a training leaves: the model to use, its card filled in."""

import logging
from pathlib import Path

from geo_retina.card import DataSource, ModelCard
from geo_retina.model.checkpoint import load_network, read_info, save_checkpoint
from geo_retina.model.retinanet import RetinaNet
from geo_retina.training.data import TrainingData
from geo_retina.training.settings import TrainingSettings
from geo_retina.training.validation import BEST_NAME, measure, measured_card

_log = logging.getLogger(__name__)


def write_model(
    path: Path,
    network: RetinaNet,
    settings: TrainingSettings,
    data: TrainingData,
    *,
    device: str,
) -> None:
    """Write the model: the weights to keep, and a card that says where they come from."""
    best = path.parent / BEST_NAME
    by_val = bool(data.val) and settings.validation.keep == "best" and best.is_file()
    kept = load_network(read_info(best)) if by_val else network
    card = _told_sources(settings)
    save_checkpoint(path, kept, card)
    if data.val:
        evaluation = measure(data.val, path, settings.validation, device=device)
        card = measured_card(card, evaluation, chosen_by_val=by_val)
        save_checkpoint(path, kept, card)
        _log.info("val chose the score %.3f", card.score)
    _log.info("wrote %s", path)


def _told_sources(settings: TrainingSettings) -> ModelCard:
    """The card with its data and its command, where the recipe does not tell them."""
    card = settings.card
    found = tuple(
        DataSource(
            name=source.name,
            role=role,
            licence=source.licence,
            attribution=source.attribution,
        )
        for role, sources in (("train", settings.train), ("val", settings.val))
        for source in sources
    )
    changes: dict[str, object] = {}
    if not card.trained_on:
        changes["trained_on"] = [item.model_dump() for item in found]
    if not card.reproduce:
        changes["reproduce"] = "geo-retina train recipe.json (beside the checkpoint)"
    return ModelCard.model_validate(card.model_dump() | changes)
