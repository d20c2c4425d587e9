import pytest

from geo_retina.wording import counted, duration, fid_list, listed, shown


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 rasters"), (1, "1 raster"), (2000, "2,000 rasters")]
)
def test_nouns_are_counted(number: int, said: str) -> None:
    assert counted(number, "raster") == said


def test_nouns_with_a_plural_of_their_own() -> None:
    assert counted(2, "suspect box", "suspect boxes") == "2 suspect boxes"


@pytest.mark.parametrize(
    ("value", "said"),
    [("0.3", "'0.3'"), (None, "None"), ([0] * 99, "a list"), ("a\nb", "'a\\nb'")],
)
def test_wrong_values_are_shown_on_one_short_line(value: object, said: str) -> None:
    assert shown(value) == said


def test_long_lists_are_cut() -> None:
    assert listed([]) == ""
    assert listed("abcde") == "a, b, c, d, e"
    assert listed("abcdefg") == "a, b, c, d, e and 2 more"
    assert fid_list([3, 9]) == "fid 3, 9"


def test_times_have_the_unit_that_fits() -> None:
    shown = [duration(seconds) for seconds in (0.2, 10, 600, 36_000)]
    assert shown == ["less than 1 s", "10 s", "10 min", "10.0 h"]
