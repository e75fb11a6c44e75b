"""A source from its end to its beginning: the ids of the other vocabulary in reverse order, and the line comes back."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.errors import UserError
from research.text.reversed import Reversed, from_json
from research.text.vocabulary import BEGIN, END, PAD, UNITS, UNKNOWN, UNKNOWN_SIGN, Vocabulary

LINES = ['a big dog runs', 'two big dogs  run', 'ein großer Hund', 'a dog, a dog, a dog', 'großer dog, großer Hund']
FORWARD = {unit: Vocabulary.build(LINES, unit, {'bytes': 260}.get(unit, 24)) for unit in UNITS}
each_unit = pytest.mark.parametrize('unit', UNITS)


def test_the_symbols_stand_in_reverse_order_and_the_end_is_the_last():
    words = FORWARD['words']
    ids = Reversed(words).encode('a big dog')
    assert [words.symbol(number) for number in ids[:-1]] == ['dog', 'big', 'a']
    assert (ids.dtype, ids[-1]) == (np.int32, END)
    assert Reversed(words).encode('').tolist() == [END]
    assert Reversed(words).encode('dog').tolist() == words.encode('dog').tolist()


@each_unit
@settings(max_examples=30)
@given(line=st.text(st.sampled_from('a dogßrunbiq ')))
def test_a_line_comes_back_and_what_is_unknown_is_named(unit, line):
    forward, backward = FORWARD[unit], Reversed(FORWARD[unit])
    ids = backward.encode(line)
    assert ids[:-1][::-1].tolist() == forward.encode(line)[:-1].tolist()
    assert ids[-1] == END
    assert backward.decode(ids) == forward.decode(forward.encode(line))
    assert backward.written(line) == forward.written(line)
    assert backward.unknown(line) == forward.unknown(line)
    assert (ids == UNKNOWN).sum() == len(backward.unknown(line))


def test_decoding_stops_at_the_end_and_skips_padding_and_begin():
    words = Reversed(FORWARD['words'])
    dog, big, end = words.encode('big dog')
    assert words.decode([BEGIN, dog, PAD, UNKNOWN, big, end, dog]) == f'big {UNKNOWN_SIGN} dog'
    assert words.symbols([dog, big, end]) == ['dog', 'big']
    with pytest.raises(ValueError, match=f'Id {len(words)} '):
        words.decode([len(words)])


@pytest.mark.parametrize(('unit', 'alpha'), [('bpe', 0.3), ('unigram', 0.2)])
def test_random_cuts_are_those_of_the_other_vocabulary_reversed(unit, alpha):
    forward, backward = FORWARD[unit], Reversed(FORWARD[unit])
    cuts = backward.samples(LINES[3], 5, (1, 2), alpha)
    assert len({ids.tobytes() for ids in cuts}) > 1
    for ids, other in zip(cuts, forward.samples(LINES[3], 5, (1, 2), alpha), strict=True):
        assert (ids.dtype, ids[-1]) == (np.int32, END)
        assert ids[:-1][::-1].tolist() == other[:-1].tolist()
        assert backward.decode(ids) == LINES[3]


@each_unit
def test_json_brings_it_back_and_its_hash_is_not_that_of_the_other_vocabulary(unit):
    forward, backward = FORWARD[unit], Reversed(FORWARD[unit])
    again = from_json(backward.to_json())
    assert (type(again), again.unit, len(again), again.hash) == (Reversed, unit, len(forward), backward.hash)
    assert again.encode(LINES[0]).tolist() == backward.encode(LINES[0]).tolist()
    assert [again.symbol(number) for number in range(4, len(again))] == [
        forward.symbol(number) for number in range(4, len(forward))]
    assert backward.hash != forward.hash
    plain = from_json(forward.to_json())
    assert (type(plain), plain.hash) == (type(forward), forward.hash)


@pytest.mark.parametrize('text', ['', '[]', '{"reversed": 5}', '{"reversed": {"unit": "words"}}', '{"reversed": {}}',
                                  '{"reversed": {"unit": "words", "symbols": ["a"]}, "more": 1}',
                                  '{"reversed": {"reversed": {"unit": "bytes"}}}'])
def test_a_damaged_one_is_refused_in_one_line(text):
    with pytest.raises(UserError) as caught:
        from_json(text)
    assert str(caught.value).startswith('vocabulary: ')
    assert '\n' not in str(caught.value)


def test_its_json_is_that_of_the_other_vocabulary_under_one_key():
    content = json.loads(Reversed(FORWARD['bytes']).to_json())
    assert content == {'reversed': {'unit': 'bytes'}}
