"""What may be read, picture by picture."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.attention.masks import REACHES, BigBird, Everything, GlobalWindow, Strided, Window, reach, readable
from research.attention.masks import reversed_places as from_the_end
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


# -------------------------------------------------------------------------------------------------------------- reaches

PICTURES = {
    Window(1): ['#.....', '.#....', '..#...', '...#..', '....#.', '.....#'],
    Window(2): ['##....', '###...', '.###..', '..###.', '...###', '....##'],
    Strided(1, 3): ['#..#..', '.#..#.', '..#..#', '#..#..', '.#..#.', '..#..#'],
    Strided(2, 4): ['##..#.', '###..#', '.###..', '..###.', '#..###', '.#..##'],
    GlobalWindow(1, 0): ['#.....', '.#....', '..#...', '...#..', '....#.', '.....#'],
    GlobalWindow(1, 1): ['######', '##....', '#.#...', '#..#..', '#...#.', '#....#'],
    GlobalWindow(2, 2): ['######', '######', '####..', '#####.', '##.###', '##..##'],
    BigBird(1, 0, 2, 0.0, 3): ['#.....', '.#....', '..#...', '...#..', '....#.', '.....#'],
    BigBird(1, 0, 2, 1.0, 3): ['######'] * 6,
    Everything(): ['######'] * 6,
}


@pytest.mark.parametrize('reach', PICTURES, ids=str)
@pytest.mark.parametrize('causal', [False, True])
def test_a_reach_looks_like_this(reach, causal):
    here = places([1] * 6, range(6))
    expected = [row[:t + 1].ljust(6, '.') if causal else row for t, row in enumerate(PICTURES[reach])]
    assert picture(readable(here, here, causal=causal, reach=reach)) == expected


def test_a_reach_counts_positions_of_a_segment_and_not_places_in_a_row():
    here = places([1, 1, 1, 2, 2, 0], [0, 1, 2, 0, 1, 0])
    led, near = (picture(readable(here, here, reach=reach)) for reach in (GlobalWindow(1, 1), Window(2)))
    assert led == ['###...', '##....', '#.#...', '...##.', '...##.', '......']
    assert near == ['##....', '###...', '.##...', '...##.', '...##.', '......']
    assert picture(readable(places([1], [7]), places([1, 1, 1], [4, 6, 7]), causal=True, reach=Window(3))) == ['.##']


SIX = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 7)), min_size=6, max_size=6)  # so one shape is compiled


@settings(deadline=None)
@given(SIX, SIX, st.booleans(), st.one_of(
    st.builds(Window, st.integers(1, 4)), st.builds(Strided, st.integers(1, 3), st.integers(1, 4)),
    st.builds(GlobalWindow, st.integers(1, 3), st.integers(0, 3)),
    st.builds(BigBird, st.integers(1, 2), st.integers(0, 2), st.integers(1, 3), st.floats(0, 1), st.integers(0, 99))))
def test_every_entry_of_every_reach_follows_its_formula(queries, keys, causal, reach):
    mask = np.asarray(readable(places(*zip(*queries)), places(*zip(*keys)), causal=causal, reach=reach))
    for (t, (query_segment, at)), (s, (key_segment, there)) in (
            (query, key) for query in enumerate(queries) for key in enumerate(keys)):
        may = query_segment > 0 and query_segment == key_segment and (not causal or there <= at)
        assert bool(mask[0, t, s]) == (may and within(reach, at, there))


def within(reach, t, s):
    near = abs(s - t) < reach.width
    if isinstance(reach, Strided):
        return near or t % reach.stride == s % reach.stride
    if isinstance(reach, (GlobalWindow, BigBird)):
        near = near or t < reach.leaders or s < reach.leaders
    return near or (isinstance(reach, BigBird) and drawn(reach, t, s))


def drawn(reach, t, s):
    """The hash in whole numbers of any size, cut to 32 bits after each step."""
    cut = 2**32
    number = (2654435761 * reach.seed + 2246822519 * (t // reach.block) + 3266489917 * (s // reach.block)) % cut
    number = (number ^ number >> 15) * 2246822519 % cut
    number = (number ^ number >> 13) * 3266489917 % cut
    return number ^ number >> 16 < round(reach.share * (cut - 1))


def blocks_of(reach, count):
    """Which of count x count blocks are read."""
    position = reach.block * np.arange(count, dtype=np.int32)
    return np.asarray(reach(position[None, :, None], position[None, None]))[0]


@pytest.mark.parametrize('share', [0.05, 0.3, 0.8])
def test_big_bird_reads_about_its_share_of_blocks(share):
    """Of 90,000 draws, in all of them and in every row and column; three standard deviations, five for the least."""
    seen = [blocks_of(BigBird(1, 0, 3, share, seed), 300) & ~np.eye(300, dtype=bool) for seed in (0, 1, 7)]
    deviation = np.sqrt(share * (1 - share))
    for one in seen:
        assert abs(one.sum() / (300 * 299) - share) < 3 * deviation / 299
        for axis in (0, 1):
            assert np.all(np.abs(one.sum(axis=axis) / 299 - share) < 5 * deviation / np.sqrt(299))
    for left, right in ((seen[0], seen[1]), (seen[1], seen[2]), (seen[0], seen[0].T)):  # seeds, and both directions
        assert abs((left & right).sum() / (300 * 299) - share**2) < 0.02


def test_big_bird_is_the_same_each_time_and_the_seed_tells_which():
    reach, at = BigBird(1, 1, 2, 0.4, 11), np.arange(40, dtype=np.int32)[None]
    whole = np.asarray(reach(at[:, :, None], at[:, None]))
    np.testing.assert_array_equal(jax.jit(reach.__call__)(at[:, :, None], at[:, None]), whole)
    np.testing.assert_array_equal(reach(at[:, 17:18, None], at[:, None])[:, 0], whole[:, 17])  # a query alone
    assert np.any(whole != np.asarray(reach._replace(seed=12)(at[:, :, None], at[:, None])))
    near = np.asarray(GlobalWindow(1, 1)(at[:, :, None], at[:, None]))
    assert np.all(whole[near])
    pairs = whole[0, 2:, 2:].reshape(19, 2, 19, 2)  # behind the leaders, blocks of two positions are read as one
    drawn = pairs[~np.eye(19, dtype=bool)[:, None, :, None].repeat(2, 1).repeat(2, 3)].reshape(-1)
    assert 0.2 < drawn.mean() < 0.6
    for i, j in np.ndindex(19, 19):
        assert i == j or len(np.unique(pairs[i, :, j])) == 1


def test_a_reach_is_made_by_name():
    options = {'everything': {}, 'window': {'width': 3}, 'strided': {'width': 3, 'stride': 2},
               'global_window': {'width': 3, 'leaders': 0},
               'big_bird': {'width': 3, 'leaders': 1, 'block': 2, 'share': 0.5, 'seed': 0}}
    assert set(options) == set(REACHES)
    for name, fields in options.items():
        assert reach(name, **fields) == REACHES[name](**fields)


# ------------------------------------------------------------------------------------------------------------- reversed

def test_reversed_places_is_the_picture_in_its_docstring():
    before = places([1, 1, 0, 1, 2, 2, 0], [0, 1, 0, 2, 0, 1, 5])
    after = from_the_end(before)
    for name in ('segment', 'position'):
        left, right = (' '.join(str(number) for number in getattr(here, name)[0]) for here in (before, after))
        line = next(line for line in from_the_end.__doc__.splitlines() if line.strip().startswith(name))
        assert line.split() == [name, *left.split(), '->', *right.split()]


def test_reversed_twice_is_as_before():
    here = places([0, 1, 1, 1, 2, 0, 3, 3], [0, 0, 1, 2, 0, 0, 0, 1])
    twice = from_the_end(from_the_end(here))
    np.testing.assert_array_equal(twice.segment, here.segment)
    real = here.segment > 0
    np.testing.assert_array_equal(np.asarray(twice.position)[real], here.position[real])
