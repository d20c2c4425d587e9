import errno
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from geo_retina.card import ModelCard
from geo_retina.errors import ModelError, OutputError, WriteError
from geo_retina.model import checkpoint
from geo_retina.model.checkpoint import (
    find_checkpoint,
    header_of,
    load_network,
    read_info,
    save_checkpoint,
)
from geo_retina.model.retinanet import RetinaNet, build_retinanet
from geo_retina.model.settings import (
    AnchorSettings,
    BackboneSettings,
    HeadSettings,
    NetworkSettings,
)

CardMaker = Callable[..., ModelCard]

RUST_ON_FULL = "Error while serializing: I/O error: No space left on device (os error 28)"


@pytest.fixture(scope="module")
def network() -> RetinaNet:
    torch.manual_seed(0)
    settings = NetworkSettings(
        num_classes=1,
        backbone=BackboneSettings(name="timm:test_efficientnet", frozen_batch_norm=False),
        levels=(3, 4),
        pyramid_width=16,
        head=HeadSettings(depth=1, width=16),
        anchors=AnchorSettings(sizes=((16,), (32,)), ratios=(1.0,)),
    )
    network = build_retinanet(settings).train()
    network(torch.rand(2, 3, 64, 64))  # moves the statistics of batch norm
    return network.eval()


@pytest.fixture
def path(tmp_path: Path, network: RetinaNet, make_card: CardMaker) -> Path:
    save_checkpoint(tmp_path / "model.safetensors", network, make_card())
    return tmp_path / "model.safetensors"


def test_a_checkpoint_brings_everything_back(
    path: Path, network: RetinaNet, make_card: CardMaker
) -> None:
    info = read_info(path)
    assert info.card == make_card()
    assert info.network == network.settings
    again = load_network(info)
    assert not again.training
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(again(images).logits, network(images).logits, rtol=0, atol=0)
    assert [file.name for file in path.parent.iterdir()] == ["model.safetensors"]


def test_equal_checkpoints_are_equal_files_and_carry_their_recipe(
    tmp_path: Path, network: RetinaNet, make_card: CardMaker
) -> None:
    card = make_card(summary='Bäume, "cut" at 0.1 m\\n')
    recipe = json.dumps({"schedule": {"steps": 3}, "note": "Bäume"}, ensure_ascii=False)
    for name in "abcd":
        save_checkpoint(tmp_path / name, network, card, recipe=recipe)
    assert len({(tmp_path / name).read_bytes() for name in "abcd"}) == 1
    info = read_info(tmp_path / "a")
    assert info.recipe == recipe
    assert info.card == card
    assert load_file(tmp_path / "a").keys() == load_file(tmp_path / "b").keys()
    save_checkpoint(tmp_path / "e", network, card)
    assert read_info(tmp_path / "e").recipe is None


def test_half_precision_halves_the_filters_and_keeps_the_statistics(
    path: Path, network: RetinaNet, make_card: CardMaker
) -> None:
    small = path.with_name("half.safetensors")
    save_checkpoint(small, network, make_card(), half_precision=True)
    stored = load_file(small)
    assert {tensor.dtype for tensor in stored.values() if tensor.ndim > 1} == {torch.float16}
    assert {tensor.dtype for tensor in stored.values() if tensor.ndim <= 1} == {torch.float32}
    assert small.stat().st_size < 0.7 * path.stat().st_size
    again = load_network(read_info(small))
    assert {value.dtype for value in again.parameters()} == {torch.float32}
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(again(images).logits, network(images).logits, rtol=0, atol=0.01)


def test_the_header_is_read_without_torch(path: Path) -> None:
    program = (
        "import sys; from geo_retina.model.checkpoint import read_info; "
        f"print(read_info({str(path)!r}).card.name, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["test", "False"]


def test_bundled_models_are_found_by_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "bundled_models", lambda: {"trees": path})
    assert find_checkpoint("trees") == path
    assert find_checkpoint(str(path)) == path
    with pytest.raises(ModelError, match=r"unknown model 'tree'.*bundled models \(trees\)"):
        find_checkpoint("tree")


def test_a_truncated_file_is_an_error(path: Path) -> None:
    whole = path.read_bytes()
    for length in (0, 4, 8, 100, len(whole) // 2):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError):
            load_network(read_info(path))


@pytest.mark.parametrize(
    "content", [b"PK\x03\x04 an archive, not a checkpoint", b"\x02" + b"\0" * 7 + b"[]"]
)
def test_another_kind_of_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="not a"):
        read_info(tmp_path / "x.safetensors")


def test_a_safetensors_file_of_another_project_is_an_error(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match="its format is None, expected 'geo_retina 1'"):
        read_info(tmp_path / "x.safetensors")


@pytest.mark.parametrize("key", ["card", "network"])
def test_a_damaged_header_is_an_error(
    path: Path, network: RetinaNet, make_card: CardMaker, key: str
) -> None:
    header = header_of(make_card(), network.settings)
    for wrong in (header | {key: "{}"}, {k: v for k, v in header.items() if k != key}):
        save_file({"a": torch.ones(1)}, path, metadata=wrong)
        with pytest.raises(ModelError, match=r"header of .* is damaged"):
            read_info(path)


@pytest.mark.parametrize(
    ("key", "part", "said"),
    [
        ("card", {"chip_px": 2**40}, "less than or equal to 65536"),
        ("card", {"std": [0, 1, 1]}, "greater than 0"),
        ("card", {"mean": [float("nan"), 0, 0]}, "finite"),
        ("card", {"value_range": [0, float("inf")]}, "finite"),
        ("network", {"head": {"depth": 10**9}}, "less than or equal to 100"),
        ("network", {"anchors": {"sizes": [[float("inf")], [1]]}}, "finite"),
    ],
)
def test_numbers_that_nothing_can_be_built_from_are_an_error(
    path: Path, network: RetinaNet, make_card: CardMaker, key: str, part: dict[str, Any], said: str
) -> None:
    header = header_of(make_card(), network.settings)
    changed = json.loads(header[key]) | part
    save_file({"a": torch.ones(1)}, path, metadata=header | {key: json.dumps(changed)})
    with pytest.raises(ModelError, match=said):
        read_info(path)


def test_a_network_larger_than_memory_is_an_error(
    path: Path, network: RetinaNet, make_card: CardMaker
) -> None:
    settings = network.settings.model_copy(update={"pyramid_width": 10**12})
    save_file(load_file(path), path, metadata=header_of(make_card(), settings))
    with pytest.raises(ModelError, match="cannot be used"):
        load_network(read_info(path))


@pytest.mark.parametrize(
    "header", [b"[" * 100_000, b'{"__metadata__": {"format": "geo_retina 1", "recipe": {}}}']
)
def test_a_header_that_no_program_wrote_is_an_error(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ModelError, match="is not a"):
        read_info(tmp_path / "x.safetensors")


def test_weights_that_do_not_fit_the_settings_are_an_error(
    path: Path, network: RetinaNet, make_card: CardMaker
) -> None:
    state = load_file(path)
    del state["heads.boxes.last.bias"]
    save_file(state, path, metadata=header_of(make_card(), network.settings))
    with pytest.raises(ModelError, match=r"heads\.boxes\.last\.bias"):
        load_network(read_info(path))


def test_a_card_that_contradicts_the_network_is_an_error(
    path: Path, network: RetinaNet, make_card: CardMaker
) -> None:
    two = make_card(class_names=("tree", "shrub"))
    with pytest.raises(ModelError, match="names 2 classes and 3 bands, the network has 1 and 3"):
        save_checkpoint(path, network, two)
    save_file(load_file(path), path, metadata=header_of(two, network.settings))
    with pytest.raises(ModelError, match="names 2 classes"):
        read_info(path)


def test_a_place_that_cannot_be_written_is_an_error(
    tmp_path: Path, network: RetinaNet, make_card: CardMaker
) -> None:
    with pytest.raises(OutputError, match="cannot write the checkpoint"):
        save_checkpoint(tmp_path / "missing" / "x.safetensors", network, make_card())
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write the checkpoint"):
        save_checkpoint(tmp_path / "file" / "x.safetensors", network, make_card())


@pytest.mark.parametrize("full", [OSError(errno.ENOSPC, "full"), SafetensorError(RUST_ON_FULL)])
def test_a_full_disk_is_no_bad_input(
    path: Path,
    network: RetinaNet,
    make_card: CardMaker,
    monkeypatch: pytest.MonkeyPatch,
    full: Exception,
) -> None:
    monkeypatch.setattr("safetensors.torch.save_file", Mock(side_effect=full))
    with pytest.raises(WriteError, match="make room"):
        save_checkpoint(path, network, make_card())


def test_a_failed_write_leaves_the_old_file(
    path: Path, network: RetinaNet, make_card: CardMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OutputError, match="no space left"):
        save_checkpoint(path, network, make_card())
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["model.safetensors"]


def test_the_header_is_plain_json(path: Path) -> None:
    raw = path.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert json.loads(header["__metadata__"]["network"])["num_classes"] == 1
