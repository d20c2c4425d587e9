"""Tiny recipes and rasters with squares to find."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    """The same sums in every run, and no fight for cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def field_data(
    tmp_path: Path,
    write_raster_at: Callable[..., Path],
    field_of_objects: Callable[..., Any],
) -> Path:
    """A folder with `images/a.tif`, `b.tif`, `c.tif` (apart from each other) and `labels.csv`."""
    from affine import Affine

    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    lines = ["image_path,xmin,ymin,xmax,ymax,label,split"]
    for number, name in enumerate("abc"):
        pixels, boxes = field_of_objects(150, 120, seed=number)
        place = Affine(0.1, 0, 500_000 + 100 * number, 0, -0.1, 5_400_000)
        write_raster_at(folder / "images" / f"{name}.tif", pixels, transform=place)
        split = "val" if name == "c" else "train"
        lines += [f"{name}.tif,{','.join(map(str, box.astype(int)))},tree,{split}" for box in boxes]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def recipe(make_card: Callable[..., Any]) -> Callable[..., Any]:
    """`recipe(**changes)`: settings of a tiny training on `field_data`; keys with dots go deep."""
    from geo_retina.training.settings import TrainingSettings

    def build(**changes: Any) -> TrainingSettings:
        source = {"kind": "deepforest-csv", "labels": "labels.csv", "images": "images"}
        values: dict[str, Any] = {
            "card": make_card(name="tiny").model_dump(),
            "network": {
                "num_classes": 1,
                "backbone": {"name": "timm:test_efficientnet", "frozen_batch_norm": False},
                "pyramid_width": 16,
                "levels": (2, 3),
                "head": {"depth": 1, "width": 16},
                "anchors": {"sizes": ((12,), (24,)), "ratios": (1.0,)},
            },
            "augment": {"crop_px": 64},
            "schedule": {
                "steps": 6,
                "epoch_steps": 2,
                "batch": 2,
                "warm_up_steps": 2,
                "backbone_learning_rate": 1e-3,
                "ema_decay": 0.5,
            },
            "train": [source | {"split": "train"}],
        }
        for path, value in changes.items():
            *parents, last = path.split("__")
            place = values
            for parent in parents:
                place = place.setdefault(parent, {})
            if value is None:
                place.pop(last, None)
            else:
                place[last] = value
        return TrainingSettings.model_validate(values)

    return build


@pytest.fixture
def val_source() -> dict[str, Any]:
    return {"kind": "deepforest-csv", "labels": "labels.csv", "images": "images", "split": "val"}


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(5)
