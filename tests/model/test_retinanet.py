import pytest
import torch

from geo_retina.config import load_settings
from geo_retina.errors import ModelError
from geo_retina.model.criterion import Criterion, LossSettings, Targets
from geo_retina.model.decode import decode_chips
from geo_retina.model.retinanet import RetinaNet, build_retinanet, normalise
from geo_retina.model.settings import NetworkSettings
from geo_retina.model.thresholds import Thresholds

RECIPE = """
num_classes = 4
in_bands = 5
levels = [2, 3, 4, 5, 6]
pyramid_width = 32
p6_from = "p5"

[backbone]
name = "timm:test_efficientnet"
frozen_batch_norm = false

[head]
depth = 2
width = 64
norm = "group"
objectness = true

[anchors]
sizes = [[12, 16], [24, 32], [48, 64], [96, 128], [192, 256]]
ratios = [1.0]
"""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> RetinaNet:
    path = tmp_path_factory.mktemp("recipe") / "network.toml"
    path.write_text(RECIPE)
    torch.manual_seed(0)
    return build_retinanet(load_settings(path, NetworkSettings))


def test_a_toml_file_alone_makes_another_network(network: RetinaNet) -> None:
    images = torch.zeros(2, 5, 64, 96)
    outputs = network.eval()(images)
    anchors = network.anchors(images)
    cells = [(64 // stride) * (96 // stride) for stride in (4, 8, 16, 32)] + [1 * 2]
    assert outputs.anchors_per_level == tuple(2 * count for count in cells)
    assert tuple(len(level) for level in anchors) == outputs.anchors_per_level
    assert outputs.logits.shape == (2, 2 * sum(cells), 4)
    assert outputs.objectness.shape == (2, 2 * sum(cells))


def test_it_trains_also_on_a_chip_without_objects(network: RetinaNet) -> None:
    images = torch.rand(2, 5, 64, 64, generator=torch.Generator().manual_seed(0))
    targets = [
        Targets(torch.tensor([[8.0, 8, 24, 26]]), torch.tensor([3])),
        Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)),
    ]
    criterion = Criterion(LossSettings())
    network.train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    values = []
    for _ in range(6):
        losses = criterion(network(images), network.anchors(images), targets)
        optimiser.zero_grad()
        losses.total.backward()
        optimiser.step()
        values.append(losses.total.item())
    assert values[-1] < 0.7 * values[0]
    assert not [name for name, value in network.named_parameters() if value.grad is None]


def test_batched_equals_single(network: RetinaNet) -> None:
    images = torch.randn(3, 5, 64, 64, generator=torch.Generator().manual_seed(1))
    thresholds = Thresholds(1e-4, 0.5, 1000, 300)
    with torch.inference_mode():
        network.eval()
        anchors = network.anchors(images)
        batch = network(images)
        found = decode_chips(batch, anchors, height=64, width=64, thresholds=thresholds)
        for number, chip in enumerate(images):
            alone = network(chip[None])
            torch.testing.assert_close(alone.logits[0], batch.logits[number], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(alone.deltas[0], batch.deltas[number], atol=1e-5, rtol=1e-5)
            (single,) = decode_chips(alone, anchors, height=64, width=64, thresholds=thresholds)
            assert len(single.boxes) == len(found[number].boxes)


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((1, 3, 64, 64), r"expected images of shape \(N, 5, H, W\), got \(1, 3, 64, 64\)"),
        ((5, 64, 64), r"got \(5, 64, 64\)"),
        ((1, 5, 64, 100), "expected chips of multiples of 32 px, got 64 x 100"),
        ((1, 5, 0, 64), "got 0 x 64"),
    ],
)
def test_chips_of_another_shape_are_an_error(
    network: RetinaNet, shape: tuple[int, ...], text: str
) -> None:
    with pytest.raises(ModelError, match=text):
        network(torch.zeros(shape))


def test_normalise_takes_any_type_and_range() -> None:
    pixels = torch.tensor([[[[0, 255]], [[51, 102]]]], dtype=torch.uint8)
    found = normalise(pixels, value_range=(0, 255), mean=(0.5, 0.2), std=(0.5, 0.1))
    torch.testing.assert_close(found, torch.tensor([[[[-1.0, 1]], [[0, 2]]]]))
    heights = torch.tensor([[[[-100.0, 300]]]])
    found = normalise(heights, value_range=(-100, 300), mean=(0.0,), std=(1.0,))
    torch.testing.assert_close(found, torch.tensor([[[[0.0, 1]]]]))
