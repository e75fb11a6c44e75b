"""Buckets of lengths."""

import pytest

from research.errors import UserError
from research.evaluation.lengths import by_length


def test_every_value_lands_in_the_bucket_of_its_length_and_only_there():
    records = by_length([2, 3, 3, 4, 9], [1, 0, 1, 1, 0], edges=(2, 4, 5, 7, 10))
    assert [(row['low'], row['high'], row['count'], row['sum']) for row in records] == [
        (2, 3, 3, 2.0), (4, 4, 1, 1.0), (5, 6, 0, 0.0), (7, 9, 1, 0.0)]
    assert [row['mean'] for row in records] == [pytest.approx(2 / 3), 1.0, None, 0.0]


def test_booleans_are_counted():
    assert by_length([1, 1, 1], [True, False, True], edges=(1, 2))[0]['sum'] == 2


def test_a_length_outside_of_the_buckets_is_refused_rather_than_dropped():
    for length in (1, 6):
        with pytest.raises(UserError, match=f'1 of 2 lengths lie outside .* 2 to 5, the first is {length}'):
            by_length([3, length], [1, 1], edges=(2, 4, 6))


def test_edges_must_rise():
    for edges in ((3,), (3, 3), (4, 2)):
        with pytest.raises(UserError, match='strictly rising'):
            by_length([3], [1], edges=edges)


def test_every_length_needs_a_value():
    with pytest.raises(ValueError, match='One value a length'):
        by_length([3, 4], [1], edges=(1, 9))
