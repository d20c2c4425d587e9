from typing import Any, Literal

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.ops import box_iou

from geo_retina.errors import LabelError
from geo_retina.model.anchors import decode
from geo_retina.model.criterion import (
    Adaptive,
    Assignment,
    BoxLoss,
    ClassLoss,
    Criterion,
    CrossEntropy,
    Focal,
    FocalStar,
    HardNegatives,
    Losses,
    LossSettings,
    MaxIou,
    OnlineHardExamples,
    OverlapLoss,
    QualityFocal,
    SmoothL1,
    Targets,
    Wasserstein,
)
from geo_retina.model.heads import HeadOutputs

ANCHORS = [
    torch.tensor([[0.0, 0, 16, 16], [16, 0, 32, 16], [0, 16, 16, 32], [16, 16, 32, 32]]),
    torch.tensor([[0.0, 0, 32, 32]]),
]
OBJECTS = Targets(torch.tensor([[1.0, 0, 16, 15], [17, 17, 31, 31]]), torch.tensor([1, 0]))
NOTHING = Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
CLASS_LOSSES = [
    CrossEntropy(),
    CrossEntropy(alpha=0.9),
    Focal(),
    Focal(alpha=None),
    FocalStar(),
    QualityFocal(),
    HardNegatives(ratio=1),
    OnlineHardExamples(count=2),
]
BOX_LOSSES = [SmoothL1(), OverlapLoss(), OverlapLoss(kind="diou"), OverlapLoss(kind="ciou")]
ASSIGNMENTS = [MaxIou(), Adaptive(nearest=2), Wasserstein()]


def outputs_of(
    chips: int, *, objectness: bool = False, seed: int = 0, dtype: torch.dtype = torch.float32
) -> HeadOutputs:
    random = torch.Generator().manual_seed(seed)
    return HeadOutputs(
        logits=torch.randn(chips, 5, 3, generator=random).to(dtype).requires_grad_(),
        deltas=(0.1 * torch.randn(chips, 5, 4, generator=random)).to(dtype).requires_grad_(),
        objectness=(
            torch.randn(chips, 5, generator=random).to(dtype).requires_grad_()
            if objectness
            else None
        ),
        anchors_per_level=(4, 1),
    )


@pytest.mark.parametrize("classes", CLASS_LOSSES, ids=repr)
@pytest.mark.parametrize("objectness", [False, True])
def test_a_chip_without_objects_trains_on_its_negatives(
    classes: ClassLoss, *, objectness: bool
) -> None:
    outputs = outputs_of(1, objectness=objectness)
    losses = Criterion(LossSettings(classes=classes))(outputs, ANCHORS, [NOTHING])
    losses.total.backward()
    assert torch.isfinite(losses.total)
    assert losses.total > 0
    assert losses.boxes == 0
    assert not outputs.deltas.grad.any()
    pushed_down = outputs.objectness.grad if objectness else outputs.logits.grad
    assert (pushed_down >= 0).all()
    assert pushed_down.any()


@pytest.mark.parametrize("boxes", BOX_LOSSES, ids=repr)
@pytest.mark.parametrize("assignment", ASSIGNMENTS, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_part_trains_in_every_precision(
    boxes: BoxLoss, assignment: Assignment, dtype: torch.dtype
) -> None:
    outputs = outputs_of(2, dtype=dtype)
    criterion = Criterion(LossSettings(boxes=boxes, assignment=assignment))
    losses = criterion(outputs, ANCHORS, [OBJECTS, NOTHING])
    losses.total.backward()
    assert losses.total.dtype == torch.float32
    assert losses.boxes > 0
    assert torch.isfinite(outputs.logits.grad).all()
    assert torch.isfinite(outputs.deltas.grad).all()
    assert outputs.deltas.grad[0].any()
    assert not outputs.deltas.grad[1].any()


def test_ignored_anchors_take_no_part() -> None:
    outputs = outputs_of(1)
    target = Targets(torch.tensor([[0.0, 0, 16, 23]]), torch.tensor([2]))  # IoU 0.70 and 0.36
    rule = MaxIou(positive=0.8, negative=0.3, low_quality=False)
    Criterion(LossSettings(assignment=rule))(outputs, ANCHORS, [target]).total.backward()
    touched = outputs.logits.grad[0].any(dim=1)
    assert touched.tolist() == [False, True, True, True, False]


def test_sums_are_divided_by_the_positives_of_the_batch_or_of_each_chip() -> None:
    several = Targets(ANCHORS[0].clone(), torch.tensor([0, 1, 2, 0]))
    one = Targets(ANCHORS[0][:1].clone(), torch.tensor([2]))
    rule = MaxIou(low_quality=False)
    outputs = outputs_of(2)

    def values(divide_by: Literal["batch", "chip"], batch: HeadOutputs) -> Losses:
        settings = LossSettings(assignment=rule, divide_by=divide_by)
        return Criterion(settings)(batch, ANCHORS, [several, one][: len(batch.logits)])

    first = values("batch", HeadOutputs(outputs.logits[:1], outputs.deltas[:1], None, (4, 1)))
    second = Criterion(LossSettings(assignment=rule))(
        HeadOutputs(outputs.logits[1:], outputs.deltas[1:], None, (4, 1)), ANCHORS, [one]
    )
    torch.testing.assert_close(values("chip", outputs).total, (first.total + second.total) / 2)
    torch.testing.assert_close(
        values("batch", outputs).total, (4 * first.total + 1 * second.total) / 5
    )


def test_objectness_learns_where_and_the_class_learns_what() -> None:
    outputs = outputs_of(1, objectness=True)
    losses = Criterion(LossSettings())(outputs, ANCHORS, [OBJECTS])
    losses.total.backward()
    positive = torch.tensor([True, False, False, True, False])
    assert torch.equal(outputs.logits.grad[0].any(dim=1), positive)
    assert torch.equal(outputs.objectness.grad[0] < 0, positive)
    assert losses.objectness > 0


@pytest.mark.parametrize("objectness", [False, True])
def test_quality_focal_teaches_each_positive_the_iou_of_its_box(*, objectness: bool) -> None:
    outputs = outputs_of(1, objectness=objectness)
    boxes = decode(outputs.deltas.detach()[0], torch.cat(ANCHORS))
    positive, owners = [0, 3], [0, 1]  # anchors 0 and 3 have IoU over 0.5 with objects 0 and 1
    overlap = box_iou(boxes[positive], OBJECTS.boxes).diagonal()
    scores = outputs.objectness if objectness else outputs.logits
    assert scores is not None
    with torch.no_grad():
        if objectness:
            scores[0, positive] = overlap.logit()
        else:
            scores[0, positive, OBJECTS.class_ids[owners]] = overlap.logit()
    rules = LossSettings(classes=QualityFocal(), assignment=MaxIou(low_quality=False))
    Criterion(rules)(outputs, ANCHORS, [OBJECTS]).total.backward()
    assert scores.grad is not None
    taught = scores.grad[0, positive]
    if not objectness:
        taught = taught[[0, 1], OBJECTS.class_ids[owners]]
    torch.testing.assert_close(taught, torch.zeros(2), atol=1e-6, rtol=0)


def test_class_ids_outside_the_network_are_an_error() -> None:
    wrong = Targets(OBJECTS.boxes, torch.tensor([1, 3]))
    with pytest.raises(LabelError, match=r"expected class ids in 0\.\.2, got 1 to 3"):
        Criterion(LossSettings())(outputs_of(1), ANCHORS, [wrong])
    with pytest.raises(LabelError, match="got -1 to 1"):
        Criterion(LossSettings())(
            outputs_of(1), ANCHORS, [Targets(OBJECTS.boxes, torch.tensor([1, -1]))]
        )


def test_targets_must_agree_in_length() -> None:
    with pytest.raises(LabelError, match=r"got \(2, 4\) and \(1,\)"):
        Targets(OBJECTS.boxes, torch.tensor([1]))


def test_settings_come_from_plain_data_by_their_kind() -> None:
    settings = TypeAdapter(LossSettings).validate_python(
        {
            "classes": {"kind": "focal", "gamma": 1, "alpha": "none"},
            "boxes": {"kind": "ciou", "weight": 2},
            "assignment": {"kind": "nwd", "constant": 20},
        }
    )
    assert settings.classes == Focal(gamma=1, alpha=None)
    assert settings.boxes == OverlapLoss(kind="ciou", weight=2)
    assert settings.assignment == Wasserstein(constant=20)
    assert LossSettings.model_validate_json(settings.model_dump_json()) == settings
    with pytest.raises(ValidationError, match="alpha"):
        Focal(alpha=1.5)


def test_every_object_has_an_anchor_unless_another_rule_is_stated() -> None:
    tiny = torch.tensor([[2.0, 2, 5, 5]])
    assert 0 in LossSettings().assignment.assign(ANCHORS, tiny)
    assert 0 not in MaxIou(low_quality=False).assign(ANCHORS, tiny)


@pytest.mark.parametrize("kind", [MaxIou, Wasserstein])
def test_thresholds_that_cross_are_refused(kind: Any) -> None:
    assert kind(positive=0.3, negative=0.3).negative == 0.3
    with pytest.raises(ValidationError, match=r"negative 0\.4 must not be over positive 0\.3"):
        kind(positive=0.3, negative=0.4)
    for beyond in ({"positive": 1.1}, {"positive": 0, "negative": 0}, {"negative": -0.1}):
        with pytest.raises(ValidationError, match="than"):
            kind(**beyond)


@pytest.mark.parametrize("objectness", [False, True])
def test_the_host_seldom_waits_for_a_gpu(*, objectness: bool) -> None:
    """It does where it needs a value, or the length of a selection; a few times for each chip."""

    class Waits(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            name = func.overloadpacket.__name__
            by_mask = name.startswith(("index", "_index")) and any(
                place is not None and place.dtype == torch.bool for place in args[1]
            )
            self.count += by_mask or name in ("nonzero", "_local_scalar_dense")
            return func(*args, **(kwargs or {}))

    chips = 10
    outputs = outputs_of(chips, objectness=objectness)
    with Waits() as waits:
        Criterion(LossSettings())(outputs, ANCHORS, [OBJECTS] * chips).total.backward()
    assert waits.count <= 5 * chips + 2
