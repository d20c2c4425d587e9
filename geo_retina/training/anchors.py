"""Anchors proposed for labels, beside the paper's: what `geo-retina anchors` shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geo_retina.errors import GeoreferenceError, OutputError
from geo_retina.labels.cleaning import clean_labels
from geo_retina.labels.files import read_grid
from geo_retina.labels.labels import LabelledRaster
from geo_retina.model.anchor_fit import AnchorProposal, fit_anchors
from geo_retina.model.audit import AnchorAudit, chips_of, draw_audit
from geo_retina.model.criterion import MaxIou
from geo_retina.model.settings import NetworkSettings
from geo_retina.space import boxes as box_arrays
from geo_retina.training.network import audit_chips, audit_text
from geo_retina.whole_files import whole_file

_NMS_IOU = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class ProposedAnchors:
    """Anchors fitted to labels, and what they and the paper's could find."""

    proposal: AnchorProposal
    objects: int
    """Number of the labels; audited are those on a sample of the chips."""
    fitted: AnchorAudit
    paper: AnchorAudit

    def to_text(self) -> str:
        """The TOML to put into a recipe, and both audits."""
        audits = {"these": self.fitted, "the paper's": self.paper}
        lines = [
            f"# {name}: {audit_text(audit, objects=self.objects)}".replace("\n", "\n# ")
            for name, audit in audits.items()
        ]
        return "\n".join([self.proposal.toml(), *lines])

    def draw(self, path: Path) -> Path:
        """Save a figure of both audits by object size as PNG.

        Raises:
            OutputError: It cannot be written.
        """
        figure = draw_audit({"fitted": self.fitted, "paper": self.paper})
        with whole_file(path, error=OutputError) as file:
            figure.savefig(file, format="png")
        return path


def propose_anchors(
    labelled: Sequence[LabelledRaster],
    *,
    gsd_m: float | None,
    chip_px: int,
    sizes_per_level: int = 3,
    ratios: int = 3,
) -> ProposedAnchors:
    """Fit anchors to labels and audit them, at the paper's IoU thresholds of 0.5 and 0.4.

    The fit takes all labels; of many, the audit takes those on a sample of the chips.

    Args:
        labelled: Rasters and labels; only headers are read.
        gsd_m: GSD of the model, metres per pixel; None takes boxes in the rasters' own pixels.
        chip_px: Side of a chip, pixels of the model.
        sizes_per_level: Anchor sizes of each level.
        ratios: Shapes of each size.

    Raises:
        LabelError: There are no objects.
        GeoreferenceError: A raster tells no GSD, and `gsd_m` is given.
    """
    scaled = [_objects(item, gsd_m) for item in labelled]
    known = np.concatenate([boxes for boxes, _ in scaled])
    proposal = fit_anchors(known, sizes_per_level=sizes_per_level, ratios=ratios)
    paper = NetworkSettings(num_classes=max(len(labelled[0].labels.class_names), 1))
    chips = [chip for boxes, ids in scaled for chip in chips_of(boxes, ids, chip_px=chip_px)]
    fitted, usual = (
        audit_chips(chips, network=network, assignment=MaxIou(), chip_px=chip_px, nms_iou=_NMS_IOU)
        for network in (proposal.apply(paper), paper)
    )
    return ProposedAnchors(proposal, len(known), fitted, usual)


def _objects(
    item: LabelledRaster, gsd_m: float | None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Cleaned boxes in pixels of the model, and their class ids."""
    grid = read_grid(item.raster, pixel_coordinates=gsd_m is None)
    labels = clean_labels(item.labels, width=grid.width, height=grid.height).labels
    labels = labels.select(labels.counted)
    if gsd_m is None:
        return labels.boxes, labels.class_ids
    if grid.crs is None:
        raise GeoreferenceError(
            f"{item.raster} has no CRS, so its boxes cannot be brought to {gsd_m:g} m: leave --gsd "
            "out where rasters have the model's pixel size, or georeference it"
        )
    x, y = (own / gsd_m for own in grid.gsd_m())
    return box_arrays.scale(labels.boxes, x=x, y=y), labels.class_ids
