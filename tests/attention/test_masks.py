"""What may be read, picture by picture."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from research.attention.masks import readable
from research.shapes import Places


def places(segment, position):
    return Places(np.array([segment], np.int32), np.array([position], np.int32))


def picture(mask):
    return [''.join('#' if may else '.' for may in row) for row in np.asarray(mask)[0]]


def test_the_picture_in_the_docstring_is_what_comes_out():
    here = places([1, 1, 2, 0], [0, 1, 0, 0])
    full, causal = readable(here, here), readable(here, here, causal=True)
    assert picture(full) == ['##..', '##..', '..#.', '....']
    assert picture(causal) == ['#...', '##..', '..#.', '....']
    for left, right in zip(picture(full), picture(causal)):
        assert f'{" ".join(left)}  {" ".join(right)}' in readable.__doc__


def test_pads_do_not_see_pads():
    assert picture(readable(places([0, 1], [0, 0]), places([0, 1, 0], [0, 0, 1]))) == ['...', '.#.']


def test_a_query_far_from_the_start_sees_the_keys_before_it():
    """One-position decoding: the query has index 0 in its call but stands at position 3."""
    keys = places([1, 1, 1, 1, 0], [0, 1, 2, 3, 0])
    assert picture(readable(places([1], [3]), keys, causal=True)) == ['####.']
    assert picture(readable(places([1], [1]), keys, causal=True)) == ['##...']


def test_a_source_is_read_by_the_target_of_the_same_sentence():
    targets, sources = places([1, 2, 3], [0, 0, 0]), places([2, 2, 1, 4], [0, 1, 0, 0])
    assert picture(readable(targets, sources)) == ['..#.', '##..', '....']


ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=5)


@given(ROWS, ROWS, st.booleans())
def test_every_entry_follows_the_formula(queries, keys, causal):
    mask = readable(places(*zip(*queries)), places(*zip(*keys)), causal=causal)
    for t, (query_segment, query_position) in enumerate(queries):
        for s, (key_segment, key_position) in enumerate(keys):
            may = query_segment > 0 and query_segment == key_segment and (not causal or key_position <= query_position)
            assert bool(mask[0, t, s]) == may
