from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from geo_retina.space.spread import evenly_spread


@given(st.integers(0, 400), st.integers(1, 400))
def test_positions_are_few_valid_and_as_even_as_can_be(count: int, most: int) -> None:
    chosen = evenly_spread(count, most).tolist()
    assert len(chosen) == min(count, most)
    if count <= most:
        assert chosen == list(range(count))
        return
    gaps = {after - before for before, after in pairwise(chosen)}
    assert not gaps or (max(gaps) - min(gaps) <= 1 and min(gaps) >= 1)
    assert chosen[0] == 0
    assert most == 1 or chosen[-1] == count - 1
