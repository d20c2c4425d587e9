"""The network of a training: its anchors fitted to the labels, and audited."""

import logging
from collections.abc import Sequence

import numpy as np

from geo_retina.model.anchor_fit import fit_anchors
from geo_retina.model.audit import AnchorAudit, audit_anchors, chips_of
from geo_retina.model.checkpoint import read_info
from geo_retina.model.criterion import Assignment, Targets
from geo_retina.model.settings import NetworkSettings
from geo_retina.space.spread import evenly_spread
from geo_retina.training.rasters import TrainingRaster
from geo_retina.training.settings import TrainingSettings

_log = logging.getLogger(__name__)

_MOST_AUDITED_CHIPS = 200
_ENOUGH_AUDITED_OBJECTS = 5_000  # a share of these is right to about a percent


def resolve_network(
    settings: TrainingSettings, rasters: Sequence[TrainingRaster]
) -> NetworkSettings:
    """The network's settings, with anchors fitted to the objects unless the recipe states them.

    Raises:
        LabelError: There are no objects to fit anchors to.
        ModelError: `start_from` is unknown.
    """
    if settings.network is None:
        assert settings.start_from is not None  # noqa: S101  # checked by the settings
        known = read_info(settings.start_from).network
        counts = {
            "num_classes": len(settings.card.class_names),
            "in_bands": len(settings.card.bands),
        }
        return NetworkSettings.model_validate(known.model_dump() | counts)
    if settings.network.states_anchors:
        return settings.network
    proposal = fit_anchors(np.concatenate([item.boxes[~item.ignored] for item in rasters]))
    _log.info("anchors fitted to the labels:\n%s", proposal.toml().strip())
    return proposal.apply(settings.network)


def audit_network(
    network: NetworkSettings, settings: TrainingSettings, rasters: Sequence[TrainingRaster]
) -> AnchorAudit:
    """Which objects of some chips the anchors can learn, by the recipe's own rule."""
    size = settings.augment.crop_px
    chips = [
        chip
        for item in rasters
        for chip in chips_of(item.boxes[~item.ignored], item.class_ids[~item.ignored], chip_px=size)
    ]
    return audit_chips(
        chips,
        network=network,
        assignment=settings.loss.assignment,
        chip_px=size,
        nms_iou=settings.card.nms_iou,
    )


def audit_chips(
    chips: Sequence[Targets],
    *,
    network: NetworkSettings,
    assignment: Assignment,
    chip_px: int,
    nms_iou: float,
) -> AnchorAudit:
    """Audit at most some hundred chips, spread evenly; forced matches do not count."""
    spread = evenly_spread(len(chips), _MOST_AUDITED_CHIPS)
    drawn = np.random.default_rng(0).permutation(spread)
    objects = np.cumsum([len(chips[index].boxes) for index in drawn])
    chosen = np.sort(drawn[: np.searchsorted(objects, _ENOUGH_AUDITED_OBJECTS) + 1])
    if hasattr(assignment, "low_quality"):
        assignment = assignment.model_copy(update={"low_quality": False})
    return audit_anchors(
        [chips[index] for index in chosen.tolist()],
        network=network,
        assignment=assignment,
        chip_px=chip_px,
        nms_iou=nms_iou,
    )


def audit_text(audit: AnchorAudit, *, objects: int) -> str:
    """An audit in some lines of plain text.

    Args:
        audit: Of some chips, or of all.
        objects: Number of them on all chips.
    """
    whole = len(audit) == objects
    counts = f"{objects} objects" if whole else f"{len(audit)} of {objects} objects"
    sample = "" if whole else " (a sample of the chips)"
    lines = [
        f"{counts} audited{sample}; recall cannot exceed {audit.recall_ceiling:.1%}"
        if len(audit)
        else "no objects to audit the anchors with"
    ]
    lines += [
        f"  {row.low_px:>5g} to {row.high_px:<5g} px: {row.objects:>6} objects, "
        f"{row.learnable:>6.1%} with an anchor ({row.positives:.1f} each, best IoU "
        f"{row.best_iou:.2f}), {row.recall_ceiling:>6.1%} after NMS"
        for row in audit.by_size()
    ]
    return "\n".join(lines)
