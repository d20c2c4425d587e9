from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from geo_retina.detection.backends import Backend
from geo_retina.detection.calibration import chips_of_rasters
from geo_retina.errors import LabelError, ModelError
from geo_retina.model.checkpoint import CheckpointInfo, read_info, save_checkpoint
from geo_retina.model.retinanet import build_retinanet
from geo_retina.training.recipe_export import recipe_data


@pytest.fixture
def trained(tmp_path: Path, recipe: Callable[..., Any]) -> Callable[..., CheckpointInfo]:
    """`trained(**changes)`: a checkpoint that carries a recipe of these changes."""

    def save(**changes: Any) -> CheckpointInfo:
        settings = recipe(**changes)
        path = tmp_path / "tiny.safetensors"
        network = build_retinanet(settings.network)
        save_checkpoint(path, network, settings.card, recipe=settings.model_dump_json())
        return read_info(path)

    return save


def test_calibrates_with_train_and_measures_on_val(
    trained: Callable[..., CheckpointInfo],
    recipe: Callable[..., Any],
    field_data: Path,
    val_source: dict[str, Any],
) -> None:
    (source,) = recipe().model_dump(mode="json")["train"]
    source["reading"] = {"stretch": (1, 99)}
    info = trained(train=[source], val=[val_source], validation={"iou": 0.3})
    data = recipe_data(info, field_data)
    assert [Path(raster).name for raster, _ in data.rasters] == ["a.tif", "b.tif"]
    assert {options.stretch for _, options in data.rasters} == {(1, 99)}
    (chip, _) = chips_of_rasters(data.rasters, info.card, most=2)
    assert chip.shape[:2] == (1, 3)
    assert (data.measure.iou, data.measure.distance_m) == (0.3, None)
    assert data.measure.images == "val of its recipe, 1 raster"
    (pair,) = data.measure.detect(Backend("cpu"))
    assert Path(pair.name).name == "c.tif"
    assert len(pair.labels) > 3


def test_without_val_or_recipe_nothing_can_be_measured(
    trained: Callable[..., CheckpointInfo], field_data: Path, recipe: Callable[..., Any]
) -> None:
    info = trained()
    with pytest.raises(LabelError, match="the recipe has no val side"):
        recipe_data(info, field_data)
    save_checkpoint(info.path, build_retinanet(recipe().network), info.card)
    with pytest.raises(ModelError, match="does not carry the recipe"):
        recipe_data(read_info(info.path), field_data)
