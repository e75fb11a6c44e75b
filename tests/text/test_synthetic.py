"""Tasks that are made up: the answers follow from the sources, and the links say how."""

import collections

import pytest

from research.errors import UserError
from research.text import synthetic
from research.text.synthetic import ASK, TASKS, copy, copy_distinct, make, recall, reverse

CALLS = {'copy': copy, 'reverse': reverse, 'recall': recall, 'copy_distinct': copy_distinct}


def answer(task, source):
    """What the target must be, worked out from the source alone."""
    symbols = source.split(' ')
    if task in ('copy', 'copy_distinct'):
        return symbols
    if task == 'reverse':
        return symbols[::-1]
    bar = symbols.index(ASK)
    values = dict(zip(symbols[0:bar:2], symbols[1:bar:2], strict=True))
    return [values[key] for key in symbols[bar + 1:]]


@pytest.mark.parametrize('task', TASKS)
def test_the_target_is_the_answer_to_the_source(task):
    for pair in CALLS[task](101, (1, 7), 31, seed=5):
        assert pair.target.split(' ') == answer(task, pair.source)
        assert pair.others == ()


@pytest.mark.parametrize('task', TASKS)
def test_each_target_symbol_has_one_link_and_it_leads_to_the_same_symbol(task):
    for pair in CALLS[task](101, (1, 7), 31, seed=5):
        source, target = pair.source.split(' '), pair.target.split(' ')
        assert sorted(t for _, t in pair.alignment) == list(range(len(target)))
        assert all(source[s] == target[t] for s, t in pair.alignment)
        assert len({s for s, _ in pair.alignment}) == len(target)


def test_links_by_hand():
    """A symbol that comes twice has two possible origins; the link must be the right one."""
    pair, = copy(1, (3, 3), 1, seed=0)
    assert (pair.source, pair.alignment) == ('a a a', ((0, 0), (1, 1), (2, 2)))
    pair, = reverse(1, (3, 3), 1, seed=0)
    assert (pair.source, pair.alignment) == ('a a a', ((2, 0), (1, 1), (0, 2)))


def test_a_recalled_value_is_linked_to_its_place_behind_its_key():
    for pair in recall(101, (1, 5), 20, seed=5):
        source = pair.source.split(' ')
        asked = source[source.index(ASK) + 1:]
        assert sorted(asked) == sorted(source[0:source.index(ASK):2]), 'each key is asked for once'
        assert len(set(asked)) == len(asked), 'no key comes twice'
        for s, t in pair.alignment:
            assert source[s - 1] == asked[t]


def test_recall_asks_in_random_order():
    orders = collections.Counter(tuple(s for s, _ in pair.alignment) for pair in recall(600, (3, 3), 20, seed=5))
    assert len(orders) == 6
    assert min(orders.values()) > 60


@pytest.mark.parametrize('task', TASKS)
def test_all_lengths_from_low_to_high_are_equally_likely(task):
    counts = collections.Counter(len(pair.target.split(' ')) for pair in CALLS[task](3000, (2, 6), 20, seed=5))
    assert sorted(counts) == [2, 3, 4, 5, 6]
    assert all(500 < count < 700 for count in counts.values()), counts  # 600 +- 4.5 standard deviations


@pytest.mark.parametrize('task', ['copy', 'reverse'])
def test_symbols_are_independent_and_equally_likely(task):
    pairs = CALLS[task](2000, (2, 2), 5, seed=5)
    both = collections.Counter(pair.source for pair in pairs)
    assert len(both) == 25
    assert all(45 < count < 115 for count in both.values()), both  # 80 +- 4 standard deviations


def test_there_are_as_many_different_symbols_as_asked_for():
    for count in (1, 2, 26, 27, 100):
        symbols = {symbol for pair in copy(500, (20, 20), count, seed=5) for symbol in pair.source.split(' ')}
        assert len(symbols) == count
        assert ASK not in symbols
    keys, values = set(), set()
    for pair in recall(500, (11, 11), 23, seed=5):
        listed = pair.source.split(' ')[:22]
        keys.update(listed[::2])
        values.update(listed[1::2])
    assert (len(keys), len(values), keys & values) == (11, 12, set())


def test_distinct_symbols_come_once_and_all_their_orders_are_equally_likely():
    for pair in copy_distinct(300, (1, 8), 8, seed=5):
        assert len(set(pair.source.split(' '))) == len(pair.source.split(' '))
    orders = collections.Counter(pair.source for pair in copy_distinct(2400, (3, 3), 4, seed=5))
    assert len(orders) == 4 * 3 * 2
    assert all(60 < count < 140 for count in orders.values()), orders  # 100 +- 4 standard deviations


def test_lengths_may_all_be_the_same():
    for task in TASKS:
        corpus = make(task, train=20, dev=5, test=5, lengths=(5, 5), symbols=20, seed=5)
        assert {len(pair.target.split(' ')) for split in corpus for pair in split} == {5}


def test_reverse_is_a_copy_of_the_source_read_backwards():
    for pair, other in zip(reverse(50, (1, 9), 20, seed=5), copy(50, (1, 9), 20, seed=5), strict=True):
        assert pair.target.split(' ')[::-1] == other.target.split(' ')
        assert pair.source == other.source


@pytest.mark.parametrize('task', TASKS)
def test_the_seed_decides_everything(task):
    draw = CALLS[task]
    assert draw(20, (3, 6), 20, seed=5) == draw(20, (3, 6), 20, seed=5)
    assert draw(20, (3, 6), 20, seed=5) != draw(20, (3, 6), 20, seed=6)


# ---------------------------------------------------------------------------------------------------------- the splits

def test_a_corpus_has_the_sizes_and_lengths_asked_for():
    for task in TASKS:
        corpus = make(task, train=200, dev=30, test=40, lengths=(1, 5), test_lengths=(2, 9), symbols=20, seed=5)
        assert [len(split) for split in corpus] == [200, 30, 40]
        lengths = [{len(pair.alignment) for pair in split} for split in corpus]
        assert [(min(split), max(split)) for split in lengths] == [(1, 5), (1, 5), (2, 9)]
    corpus = make('copy', train=200, dev=30, test=40, lengths=(2, 3), symbols=20, seed=5)
    assert {len(pair.alignment) for pair in corpus.test} == {2, 3}


def test_train_is_what_the_task_draws_and_does_not_depend_on_the_other_splits():
    corpus = make('reverse', train=50, dev=1, test=1, lengths=(1, 5), symbols=20, seed=5)
    assert corpus.train == reverse(50, (1, 5), 20, seed=5)
    assert make('reverse', train=50, dev=30, test=9, lengths=(1, 5), symbols=20, seed=5).train == corpus.train


@pytest.mark.parametrize('task', TASKS)
def test_no_test_source_is_in_train_or_dev_where_there_are_enough_sources(task):
    """So few symbols that plain draws would meet again and again."""
    symbols = {'copy': 7, 'reverse': 7, 'recall': 6, 'copy_distinct': 8}[task]
    sources = {'copy': {2: 49, 3: 343}, 'reverse': {2: 49, 3: 343}, 'recall': {2: 108, 3: 972},
               'copy_distinct': {2: 8 * 7, 3: 8 * 7 * 6}}[task]
    corpus = make(task, train=90, dev=60, test=300, lengths=(3, 3), symbols=symbols, seed=5)
    before = {pair.source for pair in (*corpus.train, *corpus.dev)}
    assert 2 * len(before) <= sources[3], 'the premise of this test'
    assert not before & {pair.source for pair in corpus.test}
    assert not {pair.source for pair in corpus.train} & {pair.source for pair in corpus.dev}

    crowded = make(task, train=300, dev=20, test=100, lengths=(2, 2), symbols=symbols, seed=5)
    before = {pair.source for pair in crowded.train}
    assert 2 * len(before) > sources[2], 'the premise of this test'
    assert before & {pair.source for pair in crowded.test}


def test_the_number_of_different_sources_is_known():
    """By drawing until all have come."""
    for task, length, symbols in (('copy', 2, 5), ('reverse', 3, 3), ('recall', 2, 4), ('recall', 2, 5),
                                  ('copy_distinct', 3, 5), ('copy_distinct', 4, 4)):
        drawn = {pair.source for pair in CALLS[task](4000, (length, length), symbols, seed=5)}
        assert len(drawn) == TASKS[task].sources(length, symbols)


def test_a_source_is_avoided_exactly_up_to_half_of_all_sources():
    """Two symbols, length 2: four sources. Train and dev hold up to three of them."""
    met = {count: set() for count in (1, 2, 3)}
    for seed in range(60):
        corpus = make('copy', train=3, dev=1, test=1, lengths=(2, 2), symbols=2, seed=seed)
        before = {pair.source for pair in (*corpus.train, *corpus.dev)}
        if len(before) < 4:
            met[len(before)].add(corpus.test[0].source in before)
    assert met == {1: set(), 2: {False}, 3: {False, True}}  # one is not possible: dev avoids the one of train


def test_splits_are_drawn_from_streams_of_their_own():
    """With one symbol there is one source a length, so nothing is drawn again and the lengths show the stream."""
    corpus = make('copy', train=60, dev=60, test=60, lengths=(1, 9), symbols=1, seed=5)
    assert len({tuple(len(pair.alignment) for pair in split) for split in corpus}) == 3


# ------------------------------------------------------------------------------------------------ what is not possible

@pytest.mark.parametrize('task', TASKS)
@pytest.mark.parametrize(('changes', 'names'), [
    ({'lengths': (5, 4)}, ['from 5 to 4']), ({'lengths': (0, 4)}, ['from 0 to 4', 'at least 1']),
    ({'lengths': (-2, -1)}, ['from -2 to -1']), ({'symbols': 0}, ['0 symbols']), ({'symbols': -3}, ['-3 symbols']),
    ({'count': 0}, ['0 pairs'])], ids=str)
def test_what_cannot_be_is_refused(task, changes, names):
    arguments = {'count': 3, 'lengths': (1, 4), 'symbols': 8} | changes
    with pytest.raises(UserError) as caught:
        CALLS[task](*arguments.values(), seed=1)
    for name in (task, *names):
        assert name in str(caught.value)


def test_recall_needs_a_key_for_each_pair():
    with pytest.raises(UserError, match=r'recall: 9 symbols are too few for length 5; .* at least 10'):
        recall(3, (1, 5), 9, seed=1)
    assert len(recall(3, (1, 5), 10, seed=1)) == 3


def test_distinct_symbols_must_be_as_many_as_the_longest_source_has():
    with pytest.raises(UserError, match=r'copy_distinct: 4 symbols are too few for length 5; it needs at least 5'):
        copy_distinct(3, (1, 5), 4, seed=1)
    assert {len(set(pair.source.split(' '))) for pair in copy_distinct(30, (5, 5), 5, seed=1)} == {5}


def test_an_unknown_task_is_refused_with_those_there_are():
    with pytest.raises(UserError, match=r"'sort'.*copy, reverse, recall"):
        make('sort', train=1, dev=1, test=1, lengths=(1, 2), symbols=3, seed=1)


def test_tasks_are_the_functions_of_the_same_name():
    for task in TASKS:
        assert CALLS[task] is getattr(synthetic, task)
