import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from geo_retina.model.anchors import anchor_shapes, chip_anchors, decode, encode
from geo_retina.model.convert import TORCHVISION_ANCHORS
from geo_retina.model.settings import LOG_SCALE_LIMIT, AnchorSettings

LEVELS = (3, 4, 5, 6, 7)
CPU = torch.device("cpu")


def test_paper_anchors_have_the_sizes_and_ratios_of_section_4() -> None:
    settings = AnchorSettings()
    for level, sizes in zip(LEVELS, settings.sizes, strict=True):
        shapes = anchor_shapes(sizes, settings)
        sides = shapes[:, 2:] - shapes[:, :2]
        base = 4 * 2**level
        expected = torch.tensor([base * 2 ** (octave / 3) for octave in range(3)] * 3)
        torch.testing.assert_close(sides.prod(1).sqrt(), expected)
        torch.testing.assert_close(
            sides[:, 1] / sides[:, 0], torch.tensor([0.5, 1.0, 2.0]).repeat_interleave(3)
        )


@pytest.mark.parametrize(("height", "width"), [(128, 256), (160, 96), (32, 32)])
def test_torchvision_anchors_equal_torchvision(height: int, width: int) -> None:
    theirs = AnchorGenerator(
        tuple(tuple(int(size) for size in row) for row in TORCHVISION_ANCHORS.sizes),
        ((0.5, 1.0, 2.0),) * 5,
    )
    features = [torch.zeros(1, 1, -(-height // 2**lv), -(-width // 2**lv)) for lv in LEVELS]
    expected = theirs(ImageList(torch.zeros(1, 3, height, width), [(height, width)]), features)
    found = chip_anchors(TORCHVISION_ANCHORS, levels=LEVELS, height=height, width=width, device=CPU)
    torch.testing.assert_close(torch.cat(found), expected[0], rtol=0, atol=0)


def test_positions_follow_the_stride_and_the_offset() -> None:
    settings = AnchorSettings(sizes=((8,), (16,)), ratios=(1.0,))
    fine, coarse = chip_anchors(settings, levels=(6, 7), height=160, width=32, device=CPU)
    assert ((fine[:, :2] + fine[:, 2:]) / 2).tolist() == [[32, 32], [32, 96], [32, 160]]
    assert ((coarse[:, :2] + coarse[:, 2:]) / 2).tolist() == [[64, 64], [64, 192]]
    fine[:, 2:] -= fine[:, :2]
    assert fine[:, 2:].tolist() == [[8, 8]] * 3


def test_positions_run_row_by_row_with_shapes_fastest() -> None:
    settings = AnchorSettings(sizes=((8, 16),), ratios=(1.0,))
    (anchors,) = chip_anchors(settings, levels=(5,), height=64, width=64, device=CPU)
    centres = ((anchors[:, :2] + anchors[:, 2:]) / 2).tolist()
    assert centres == [[16, 16]] * 2 + [[48, 16]] * 2 + [[16, 48]] * 2 + [[48, 48]] * 2
    assert (anchors[:, 2] - anchors[:, 0]).tolist() == [8, 16] * 4


SIDES = st.floats(1, 60)
PLACES = st.floats(-100, 1000)
BOXES = st.tuples(PLACES, PLACES, SIDES, SIDES).map(
    lambda v: torch.tensor([[v[0], v[1], v[0] + v[2], v[1] + v[3]]], dtype=torch.float64)
)


@settings(deadline=None, max_examples=50)
@given(BOXES, BOXES)
def test_decode_is_the_inverse_of_encode(box: Tensor, anchor: Tensor) -> None:
    torch.testing.assert_close(decode(encode(box, anchor), anchor), box, atol=1e-9, rtol=1e-9)


@settings(deadline=None, max_examples=50)
@given(BOXES, BOXES)
def test_code_equals_torchvision(box: Tensor, anchor: Tensor) -> None:
    coder = BoxCoder(weights=(1.0, 1.0, 1.0, 1.0))
    deltas = encode(box, anchor)
    torch.testing.assert_close(deltas, coder.encode_single(box, anchor))
    torch.testing.assert_close(decode(deltas, anchor), coder.decode_single(deltas, anchor))


def test_wild_outputs_are_limited() -> None:
    anchor = torch.tensor([[0.0, 0, 16, 16]])
    box = decode(torch.tensor([[0.0, 0, 100, LOG_SCALE_LIMIT]]), anchor)
    torch.testing.assert_close(box[:, 2:] - box[:, :2], torch.tensor([[1000.0, 1000]]))
