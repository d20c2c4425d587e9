import pytest
from pydantic import ValidationError

from geo_retina.model.settings import (
    PAPER_SIZES,
    AnchorSettings,
    HeadSettings,
    NetworkSettings,
    octave_sizes,
)


def test_the_defaults_are_the_paper() -> None:
    settings = NetworkSettings(num_classes=80)
    assert settings.levels == (3, 4, 5, 6, 7)
    assert settings.strides == (8, 16, 32, 64, 128)
    assert settings.anchors.per_location == 9
    assert [row[0] for row in PAPER_SIZES] == [32, 64, 128, 256, 512]
    assert (settings.head.depth, settings.head.width, settings.head.norm) == (4, 256, "none")
    assert settings.head.prior == 0.01
    assert settings.p6_from == "c5"
    assert not settings.separable


def test_settings_survive_json() -> None:
    settings = NetworkSettings(
        num_classes=2,
        in_bands=5,
        levels=(2, 3),
        anchors=AnchorSettings(sizes=octave_sizes((2, 3)), spacing="even"),
    )
    assert NetworkSettings.model_validate_json(settings.model_dump_json()) == settings


def test_a_checkpoint_from_before_a_field_was_added_still_loads() -> None:
    plain = NetworkSettings(num_classes=1).stated().model_dump(mode="json")
    del plain["backbone"]["batch_norm_eps"], plain["anchors"]["spacing"]
    assert NetworkSettings.model_validate(plain) == NetworkSettings(num_classes=1)


def test_a_field_that_came_later_leaves_the_hash_of_networks_without_it() -> None:
    assert "separable" not in NetworkSettings(num_classes=1).model_dump()
    separable = NetworkSettings(num_classes=1, separable=True)
    assert NetworkSettings.model_validate_json(separable.model_dump_json()) == separable


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"levels": ()}, "at least 1 item"),
        ({"levels": (3, 5)}, "levels must rise by one"),
        ({"levels": (1, 2)}, "within 2..7"),
        ({"levels": (2, 3)}, r"need 2 rows of anchors.sizes, got 5; the paper's rule gives"),
        ({"num_classes": 0}, "greater than 0"),
        ({"strides": (8,)}, "Extra inputs"),
        ({"anchors": {"sizes": [[8, 16], [32]]}}, "same number of anchor sizes"),
        ({"anchors": {"sizes": []}}, "same number of anchor sizes"),
        ({"anchors": {"sizes": [[8], [0]]}}, "must be positive"),
        ({"anchors": {"ratios": []}}, "must be positive"),
    ],
)
def test_what_cannot_be_built_is_an_error(changes: dict[str, object], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        NetworkSettings.model_validate({"num_classes": 1} | changes)


def test_group_norm_says_which_width_it_needs() -> None:
    with pytest.raises(ValidationError, match="divisible by its 32 groups, got 48; take 64"):
        HeadSettings(norm="group", width=48)
    assert HeadSettings(norm="none", width=48).width == 48


def test_levels_and_anchors_that_nobody_stated_are_not_stated_by_writing_them() -> None:
    plain = NetworkSettings(num_classes=1)
    again = NetworkSettings.model_validate_json(plain.model_dump_json())
    assert again == plain
    assert not again.states_anchors
    for changes in ({"levels": (3, 4, 5, 6, 7)}, {"anchors": AnchorSettings()}):
        stated = NetworkSettings(num_classes=1, **changes)
        assert NetworkSettings.model_validate_json(stated.model_dump_json()).states_anchors
    kept = NetworkSettings.model_validate_json(plain.stated().model_dump_json())
    assert kept == plain
    assert kept.states_anchors
