from pathlib import Path

import pytest

from geo_retina.config import load_settings, parse_settings
from geo_retina.errors import ConfigError
from geo_retina.training.division import Division
from geo_retina.training.settings import TrainingSettings

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.toml"))
RECIPE = CONFIGS[0]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_recipe_is_valid(path: Path) -> None:
    settings = load_settings(path, TrainingSettings)
    assert settings.card.name


def test_overrides_are_toml_or_words() -> None:
    settings = load_settings(
        RECIPE,
        TrainingSettings,
        overrides=[
            "schedule.steps=7",
            "augment.zoom=[0.5, 2.0]",
            "card.name=other",
            "train.0.weight=3",
            "train.0.reading.scale=[0, 100]",
        ],
    )
    assert settings.schedule.steps == 7
    assert settings.augment.zoom == (0.5, 2.0)
    assert settings.card.name == "other"
    assert settings.train[0].weight == 3
    assert settings.train[0].reading.scale == (0, 100)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("schedule.stepz=3", "unknown key 'schedule.stepz'; did you mean 'steps'"),
        ("augmentation.crop_px=64", "unknown key 'augmentation'; did you mean 'augment'"),
        ("train.0.labelz=x", r"unknown key 'train\.0\.labelz'; did you mean 'labels'\?$"),
        ("schedule.steps=many", r"schedule\.steps: .* \(got 'many'\)"),
        ("schedule.steps=-1", r"schedule\.steps: .*greater than 0 \(got -1\)"),
        ("schedule.steps", "expected key=value"),
        ("=3", "expected key=value"),
        ("card.name.first=x", "is a value, not a table"),
        ("train.99.weight=3", "expected an entry 0 to"),
        ("train.first.weight=3", "expected an entry 0 to"),
        ("train.99=3", "expected an entry 0 to"),
        ("val.0.labels=v.json", r"no table \[\[val\]\] to change; write one into a copy"),
        ("network.num_classes=5", "network.num_classes is 5, but the card names"),
    ],
)
def test_bad_keys_and_values_are_named(override: str, said: str) -> None:
    path = next(path for path in CONFIGS if path.stem == "dense-small")
    with pytest.raises(ConfigError, match=said):
        load_settings(path, TrainingSettings, overrides=[override])


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the configuration"):
        load_settings(tmp_path / "none.toml", TrainingSettings)
    (tmp_path / "bad.toml").write_text("steps = = 3")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_settings(tmp_path / "bad.toml", TrainingSettings)
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ConfigError, match="not valid JSON"):
        load_settings(tmp_path / "bad.json", TrainingSettings)
    (tmp_path / "deep.toml").write_text("steps = " + "[" * 100_000)
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_settings(tmp_path / "deep.toml", TrainingSettings)
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(ConfigError, match="not valid JSON"):
        load_settings(tmp_path / "deep.json", TrainingSettings)
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(ConfigError, match="expected named values"):
        load_settings(tmp_path / "list.json", TrainingSettings)


def test_json_of_a_run_says_the_same(tmp_path: Path) -> None:
    settings = load_settings(RECIPE, TrainingSettings)
    (tmp_path / "recipe.json").write_text(settings.model_dump_json())
    assert load_settings(tmp_path / "recipe.json", TrainingSettings) == settings


def test_a_union_is_told_apart_by_its_kind() -> None:
    found = parse_settings({"kind": "block", "block_m": 5}, Division, source="here")
    assert found.block_m == 5
    with pytest.raises(ConfigError, match=r"^here: block\.block_m: Field required"):
        parse_settings({"kind": "block"}, Division, source="here")


def test_a_key_of_another_kind_is_told_as_such() -> None:
    recipe = next(path for path in CONFIGS if path.stem == "dense-small")
    with pytest.raises(ConfigError, match=r"'divide\.block_m' does not belong to kind = 'file'"):
        load_settings(recipe, TrainingSettings, overrides=["divide.kind=file"])
    whole = load_settings(recipe, TrainingSettings, overrides=['divide={kind="file"}'])
    assert whole.divide is not None
    assert whole.divide.kind == "file"


def test_a_card_takes_rasters_of_its_own_gsd() -> None:
    with pytest.raises(ConfigError, match=r"coarsest_gsd_m 0\.25 must be at least gsd_m 1"):
        load_settings(
            next(path for path in CONFIGS if path.stem == "two-cores"),
            TrainingSettings,
            overrides=["card.gsd_m=1"],
        )


@pytest.mark.parametrize("mean", ["[123.7, 116.3, 103.5]", "[0.5, -0.1, 0.5]", "[1e300, 0, 0]"])
def test_a_mean_is_one_of_values_from_0_to_1(mean: str) -> None:
    """What lies outside a raster is filled with it, so the data type must hold it."""
    with pytest.raises(ConfigError, match=r"uint8, which holds 0 to 255; mean and std are those"):
        load_settings(
            next(path for path in CONFIGS if path.stem == "two-cores"),
            TrainingSettings,
            overrides=[f"card.mean={mean}"],
        )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_recipes_may_come_from_editors_and_shells_of_windows(tmp_path: Path, encoding: str) -> None:
    text = RECIPE.read_text(encoding="utf-8").replace("\n", "\r\n")
    (tmp_path / "a.toml").write_bytes(text.encode(encoding))
    assert load_settings(tmp_path / "a.toml", TrainingSettings) == load_settings(
        RECIPE, TrainingSettings
    )
    asked = load_settings(RECIPE, TrainingSettings).model_dump_json()
    (tmp_path / "a.json").write_bytes(asked.encode(encoding))
    assert load_settings(tmp_path / "a.json", TrainingSettings).model_dump_json() == asked


@pytest.mark.parametrize("path", [r"C:\data\a.gpkg", r"C:\users\a.gpkg"])
def test_backslashes_of_paths_are_explained(tmp_path: Path, path: str) -> None:
    file = tmp_path / "a.toml"
    file.write_text(f'start_from = "{path}"\n')
    with pytest.raises(ConfigError, match=r"write paths with / instead of \\$"):
        load_settings(file, TrainingSettings)
