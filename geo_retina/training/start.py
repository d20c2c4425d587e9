"""The first weights of a training: random, a pretrained backbone, or another model's."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from geo_retina.card import ModelCard
from geo_retina.errors import ConfigError
from geo_retina.model.backbone import adapt_filters
from geo_retina.model.checkpoint import load_network, read_info
from geo_retina.model.pretrained import load_pretrained
from geo_retina.model.retinanet import RetinaNet, build_retinanet
from geo_retina.model.settings import CHIP_MULTIPLE_PX, NetworkSettings
from geo_retina.training.settings import TrainingSettings

_log = logging.getLogger(__name__)

_BACKBONE = "backbone."
_LAST_CLASS_LAYER = "heads.classes.last."
_FILTERS = 4  # dimensions of a convolution's weight
_LISTED = 4
_MOST_RESCALED = 1.5
"""Ratio of ground sampling distances up to which nothing is said."""


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """What a training begins with."""

    network: RetinaNet
    finds_all: bool
    """Whether it finds every class of the card already, as the model that it was filled from."""


def start_network(network: NetworkSettings, settings: TrainingSettings) -> Start:
    """Build the network and fill it with the weights that the recipe starts from.

    Raises:
        ModelError: The weights are unknown, damaged, or those of another architecture.
        ConfigError: Batch norm would have to learn from a single value.
    """
    built = build_retinanet(network)
    _check_batch_norm(built, settings)
    random_backbone, finds_all = settings.pretrained is None, False
    if settings.pretrained is not None:
        load_pretrained(built.backbone, settings.pretrained)
    if settings.start_from is not None:
        info = read_info(settings.start_from)
        fresh = fill_network(
            built,
            load_network(info),
            card=settings.card,
            known_card=info.card,
            backbone=settings.pretrained is None,
        )
        random_backbone = any(name.startswith(_BACKBONE) for name in fresh)
        whole = not fresh and settings.pretrained is None
        finds_all = whole and set(settings.card.class_names) <= set(info.card.class_names)
        _warn_of_other_gsd(settings.card, info.card)
    if random_backbone and network.backbone.frozen_batch_norm:
        _log.warning(
            "the backbone starts from random weights, and its batch norm is frozen: it will hardly "
            "learn; name pretrained weights (pretrained = ...) or set "
            "network.backbone.frozen_batch_norm = false"
        )
    return Start(built, finds_all)


def _check_batch_norm(network: RetinaNet, settings: TrainingSettings) -> None:
    """Warn where batch norm learns from the statistics of one chip at a time.

    Raises:
        ConfigError: From a single position of it, of which there is no variance.
    """
    frozen = network.settings.backbone.frozen_batch_norm
    batch, crop_px = settings.schedule.batch, settings.augment.crop_px
    if frozen or batch > 1 or settings.schedule.backbone_learning_rate == 0:
        return
    if not any(isinstance(layer, nn.BatchNorm2d) for layer in network.backbone.modules()):
        return
    advice = (
        "raise schedule.batch (schedule.accumulate does not help: each batch is normalised by "
        "itself), or set network.backbone.frozen_batch_norm = true where the weights are pretrained"
    )
    if crop_px == CHIP_MULTIPLE_PX:
        raise ConfigError(
            f"schedule.batch is 1 and augment.crop_px {crop_px}: the coarsest stage has a single "
            f"position, of which batch norm cannot take a variance; {advice}, or raise crop_px"
        )
    _log.warning("schedule.batch is 1: batch norm learns from one chip at a time; %s", advice)


def _warn_of_other_gsd(card: ModelCard, known: ModelCard) -> None:
    """Say so where objects will look another size than the weights know them in."""
    ratio = card.gsd_m / known.gsd_m
    if max(ratio, 1 / ratio) > _MOST_RESCALED:
        _log.warning(
            "card.gsd_m is %g, and the weights of %s were made for %g: the same objects look %.3g "
            "times as large to the network",
            card.gsd_m,
            known.name,
            known.gsd_m,
            1 / ratio,
        )


def fill_network(
    network: RetinaNet,
    known: RetinaNet,
    *,
    card: ModelCard,
    known_card: ModelCard,
    backbone: bool = True,
) -> tuple[str, ...]:
    """Copy the weights of another model wherever they fit, in place.

    Classes keep the filters of the class of their name, and bands those of the band of their name;
    a band that the other model did not know starts without influence. Where no band has a known
    name, the filters are adapted as those of a backbone are.

    Args:
        network: To be filled.
        known: Another network.
        card: What `network` is for.
        known_card: What `known` is for.
        backbone: The backbone too; False leaves it as it is.

    Returns:
        Names of the tensors for which there was nothing, and which stay as they are; not those of a
        backbone that is left alone.
    """
    pair = _Pair(network, known, card, known_card)
    given = known.state_dict()
    state = {
        name: own
        for name, own in network.state_dict().items()
        if backbone or not name.startswith(_BACKBONE)
    }
    found = {name: pair.fit(name, given.get(name), own) for name, own in state.items()}
    network.load_state_dict(
        {name: tensor for name, tensor in found.items() if tensor is not None}, strict=False
    )
    fresh = tuple(name for name, tensor in found.items() if tensor is None)
    _log.info(
        "starts from %s: %d of %d tensors%s",
        known_card.name,
        len(found) - len(fresh),
        len(found),
        f"; new are {', '.join(fresh[:_LISTED])}..." if fresh else "",
    )
    filled = not any(name.startswith(_LAST_CLASS_LAYER) for name in fresh)
    _tell_classes(card.class_names, known_card.class_names, filled=filled)
    return fresh


def _tell_classes(names: Sequence[str], known: Sequence[str], *, filled: bool) -> None:
    """Say which classes start from nothing, and which of the other model are not among them.

    Args:
        names: Of the network that was filled.
        known: Of the model that it starts from.
        filled: Whether the layer that tells classes apart could be taken over.
    """
    new = [name for name in names if not filled or name not in known]
    dropped = [name for name in known if name not in names]
    if new:
        _log.info("classes that start from nothing: %s", ", ".join(new))
    if dropped:
        _log.info("classes that are dropped: %s", ", ".join(dropped))
    if new and dropped:
        _log.info(
            "if one of these is another name of the other, keep the old one in the card, and state "
            'in the source of the labels: classes = { "%s" = "%s" }',
            new[0],
            dropped[0],
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Pair:
    """Two networks, and what their classes and bands are called."""

    network: RetinaNet
    known: RetinaNet
    card: ModelCard
    known_card: ModelCard

    def fit(self, name: str, given: Tensor | None, own: Tensor) -> Tensor | None:
        """The known tensor as the network needs it; None where there is nothing for it."""
        if given is None:
            return None
        if name.startswith(_LAST_CLASS_LAYER):
            return self._classes(given, own)
        if name == self._first_filters():
            return self._bands(given, own)
        return given if given.shape == own.shape else None

    def _first_filters(self) -> str:
        """Name of the convolution that sees the bands."""
        state = self.network.backbone.state_dict()
        return _BACKBONE + next(n for n, tensor in state.items() if tensor.ndim == _FILTERS)

    def _classes(self, given: Tensor, own: Tensor) -> Tensor | None:
        """Rows of the classes of the same name; the others stay as they start.

        Channels run anchor by anchor, classes fastest, objectness last. None where neither a class
        nor objectness has anything to take.
        """
        new, old = self.network.settings, self.known.settings
        factored = new.head.objectness
        per_location = new.anchors.per_location
        same = per_location == old.anchors.per_location and factored == old.head.objectness
        names = self.known_card.class_names
        shared = factored or set(names) & set(self.card.class_names)
        if not (same and shared) or given.shape[1:] != own.shape[1:]:
            return None
        filled = own.clone().view(per_location, -1, *own.shape[1:])
        rows = given.view(per_location, -1, *given.shape[1:])
        for number, name in enumerate(self.card.class_names):
            if name in names:
                filled[:, number] = rows[:, names.index(name)]
        if factored:
            filled[:, -1] = rows[:, -1]
        return filled.view(own.shape)

    def _bands(self, given: Tensor, own: Tensor) -> Tensor | None:
        """Filters of the bands of the same name."""
        names = self.known_card.bands
        if (given.shape[0], given.shape[2:]) != (own.shape[0], own.shape[2:]):
            return None
        if not set(names) & set(self.card.bands):
            return adapt_filters(given, own.shape[1])
        filled = torch.zeros_like(own)
        for number, name in enumerate(self.card.bands):
            if name in names:
                filled[:, number] = given[:, names.index(name)]
        return filled
