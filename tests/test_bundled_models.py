"""What ships works: the bundled model, on the example that the README shows."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely

import geo_retina
from geo_retina.model.artifacts import WEIGHTS_HASH, matching_artifacts, weights_hash
from geo_retina.model.checkpoint import read_info

EXAMPLE = Path(__file__).parents[1] / "examples" / "niwot_ridge.tif"
LARGEST_BYTES = 20 * 2**20


@pytest.fixture(scope="module")
def model() -> geo_retina.Model:
    return geo_retina.load_model("tree-crowns", device="cpu")


def test_cards_are_filled_in() -> None:
    for name, path in geo_retina.bundled_models().items():
        card = geo_retina.load_model(name, device="cpu").card
        assert card.name == name
        assert path.stat().st_size <= LARGEST_BYTES
        assert all((card.summary, card.licence, card.trained_on, card.metrics, card.limits))


def test_finds_the_crowns_of_the_example() -> None:
    trees = geo_retina.detect(EXAMPLE, device="cpu")
    with rasterio.open(EXAMPLE) as raster:
        left, bottom, right, top = raster.bounds
        crs = raster.crs
    assert len(trees) > 150
    assert trees.crs == crs
    assert trees.within(shapely.box(left, bottom, right, top).buffer(1e-6)).all()
    centres = trees.geometry.centroid
    assert centres.x.between(left, right).all()
    assert centres.y.between(bottom, top).all()
    assert trees["width_m"].median() == pytest.approx(2.0, abs=1.0)


@pytest.mark.parametrize("name", ["tree-crowns", "trees-naip"])
def test_graphs_tell_which_weights_are_theirs(name: str) -> None:
    (artifact,) = matching_artifacts(read_info(name))
    entry = f'<{WEIGHTS_HASH} value="{weights_hash(artifact.path.with_suffix(".bin"))}" />'
    assert entry in artifact.path.read_text()


def test_a_chip_by_hand_gives_the_same_boxes(model: geo_retina.Model) -> None:
    with rasterio.open(EXAMPLE) as raster:
        pixels = raster.read()
        seen = raster.dataset_mask() > 0  # white is the file's nodata value
    neutral = np.round(np.array(model.card.mean) * 255).astype(np.uint8)
    found = model.detect_chip(np.where(seen, pixels, neutral[:, None, None]))
    trees = geo_retina.detect(EXAMPLE, device="cpu")
    assert len(found) == pytest.approx(len(trees), abs=1)
    best = np.sort(trees["score"])[-100:]
    np.testing.assert_allclose(np.sort(found.scores)[-100:], best, atol=1e-3)


def test_a_lower_score_finds_more(model: geo_retina.Model) -> None:
    with rasterio.open(EXAMPLE) as raster:
        pixels = raster.read()
    assert len(model.detect_chip(pixels, score=0.05)) > len(model.detect_chip(pixels, score=0.5))
