from pathlib import Path

import numpy as np
import pytest
import torch

from geo_retina.errors import LabelError
from geo_retina.model.anchors import chip_anchors
from geo_retina.model.assign import adaptive
from geo_retina.model.audit import audit_anchors, chips_of, draw_audit
from geo_retina.model.criterion import Adaptive, MaxIou, Targets
from geo_retina.model.settings import AnchorSettings, NetworkSettings

STRICT = MaxIou(low_quality=False)
PAPER = NetworkSettings(num_classes=1)


def grid_of(side: float, *, every: float = 64, size: int = 256) -> Targets:
    places = torch.arange(20.0, size - side, every)
    low = torch.cartesian_prod(places, places)
    return Targets(torch.cat([low, low + side], dim=1), torch.zeros(len(low), dtype=torch.int64))


def test_objects_too_small_for_the_anchors_cannot_be_learned() -> None:
    chips = [grid_of(10), grid_of(40)]
    audit = audit_anchors(chips, network=PAPER, assignment=STRICT, chip_px=256, nms_iou=0.5)
    assert len(audit) == len(chips[0].boxes) + len(chips[1].boxes)
    small, large = audit.by_size()
    assert (small.low_px, small.high_px, small.objects) == (8, 16, len(chips[0].boxes))
    assert (small.learnable, small.positives) == (0, 0)
    assert small.best_iou < 0.5
    assert (large.learnable, large.low_px) == (1, 32)
    assert large.positives > 1
    assert audit.recall_ceiling == pytest.approx(large.objects / len(audit))


def test_the_low_quality_rule_hides_the_misfit() -> None:
    audit = audit_anchors(
        [grid_of(10)], network=PAPER, assignment=MaxIou(), chip_px=256, nms_iou=0.5
    )
    assert audit.recall_ceiling == 1
    assert (audit.best_iou < 0.5).all()


def test_anchors_are_counted_as_the_rule_assigns_them() -> None:
    chip = grid_of(40)
    audit = audit_anchors(
        [chip], network=PAPER, assignment=Adaptive(nearest=3), chip_px=256, nms_iou=0.5
    )
    anchors = chip_anchors(
        PAPER.anchors, levels=PAPER.levels, height=256, width=256, device=torch.device("cpu")
    )
    owners = adaptive(anchors, chip.boxes, nearest=3)
    assert audit.positives.tolist() == [
        int((owners == number).sum()) for number in range(len(chip.boxes))
    ]
    assert audit.positives.any()


def test_what_nms_would_drop_lowers_the_ceiling() -> None:
    boxes = torch.tensor([[20.0, 20, 60, 60], [24, 20, 64, 60], [120, 120, 160, 160]])
    alike = Targets(boxes, torch.tensor([0, 0, 0]))
    apart = Targets(boxes, torch.tensor([0, 1, 0]))
    options = {"network": PAPER, "assignment": MaxIou(), "chip_px": 256}
    crowded = audit_anchors([alike], **options, nms_iou=0.5)
    assert crowded.separable.tolist() == [True, False, True]
    assert crowded.recall_ceiling == pytest.approx(2 / 3)
    assert audit_anchors([apart], **options, nms_iou=0.5).recall_ceiling == 1
    assert audit_anchors([alike], **options, nms_iou=0.9).recall_ceiling == 1


def test_no_objects_is_a_value() -> None:
    empty = Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    for chips in ([], [empty]):
        audit = audit_anchors(chips, network=PAPER, assignment=STRICT, chip_px=64, nms_iou=0.5)
        assert len(audit) == 0
        assert audit.by_size() == []
        assert np.isnan(audit.recall_ceiling)


def test_chips_take_each_object_once_in_their_own_frame() -> None:
    boxes = np.array(
        [[10.0, 10, 30, 30], [250, 10, 260, 20], [90, 290, 130, 310], [255, 0, 275, 9]]
    )
    chips = chips_of(boxes, np.array([0, 1, 2, 3]), chip_px=128)
    found = {
        int(number): box
        for chip in chips
        for box, number in zip(chip.boxes.tolist(), chip.class_ids, strict=True)
    }
    assert found == {
        0: [10, 10, 30, 30],
        1: [122, 10, 128, 20],  # its centre lies on the left chip's last pixel
        2: [90, 34, 128, 54],
        3: [0, 0, 19, 9],
    }
    assert chips_of(np.zeros((0, 4)), np.zeros(0, np.int64), chip_px=128) == []


def test_boxes_without_area_are_an_error() -> None:
    with pytest.raises(LabelError, match="x_min < x_max"):
        chips_of(np.array([[5.0, 5, 5, 9]]), np.array([0]), chip_px=128)


def test_the_drawing_shows_every_audit(tmp_path: Path) -> None:
    other = NetworkSettings(
        num_classes=1, levels=(2,), anchors=AnchorSettings(sizes=((10, 40),), ratios=(1.0,))
    )
    chips = [grid_of(10), grid_of(40)]
    audits = {
        name: audit_anchors(chips, network=network, assignment=STRICT, chip_px=256, nms_iou=0.5)
        for name, network in {"paper": PAPER, "fitted": other}.items()
    }
    figure = draw_audit(audits)
    labels = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert labels == ["paper: ceiling of recall 50.0%", "fitted: ceiling of recall 100.0%"]
    assert len(figure.axes[1].patches) == 4
    figure.savefig(tmp_path / "audit.png")
    assert (tmp_path / "audit.png").stat().st_size > 1000
