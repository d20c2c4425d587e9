import numpy as np
import pytest

from geo_retina.errors import LabelError
from geo_retina.labels.labels import Labels, class_ids_of


def test_empty_is_a_value() -> None:
    labels = Labels.empty(["tree"])
    assert len(labels) == 0
    assert labels.boxes.shape == (0, 4)
    assert labels.class_names == ("tree",)
    assert labels.counted.shape == (0,)


def test_class_ids_must_have_a_name() -> None:
    with pytest.raises(LabelError, match=r"0\.\.0 \(tree\), got \[1\]"):
        Labels.of([[0, 0, 1, 1]], [1], ["tree"])


def test_lengths_must_agree() -> None:
    with pytest.raises(LabelError, match="length N"):
        Labels.of([[0, 0, 1, 1]], [0], ["tree"], scores=np.zeros(2))


def test_select_takes_every_column_along() -> None:
    labels = Labels.of(
        [[0, 0, 1, 1], [2, 2, 3, 3]],
        [0, 1],
        ["tree", "palm"],
        scores=np.array([0.5, 0.75]),
        ignored=np.array([False, True]),
    )
    kept = labels.select(np.array([1]))
    assert kept.boxes.tolist() == [[2, 2, 3, 3]]
    assert kept.class_ids.tolist() == [1]
    assert kept.scores is not None
    assert kept.scores.tolist() == [0.75]
    assert kept.counted.tolist() == [False]
    assert labels.select(labels.counted).class_ids.tolist() == [0]


def test_class_names_default_to_those_that_occur() -> None:
    ids, names = class_ids_of(["palm", "oak", "palm"], None, source="x.csv")
    assert names == ("oak", "palm")
    assert ids.tolist() == [1, 0, 1]


def test_unknown_class_names_the_file_and_the_class() -> None:
    with pytest.raises(LabelError, match=r"x\.csv: expected the classes oak, found also 'palm'"):
        class_ids_of(["palm", "oak"], ["oak"], source="x.csv")


@pytest.mark.parametrize("score", [31.9, -0.1, np.nan])
def test_scores_that_are_none_are_refused(score: float) -> None:
    labels = Labels.of([[0, 0, 1, 1]] * 2, [0, 0], ["tree"], scores=np.array([0.5, score]))
    with pytest.raises(
        LabelError, match=r"a\.gpkg: expected scores from 0 to 1, got 1 others.*by 100"
    ):
        labels.check_scores("a.gpkg")
