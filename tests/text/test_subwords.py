"""Lines to pieces of words and back, and random cuts of them."""

import base64
import collections
import concurrent.futures
import contextlib
import copy
import functools
import gzip
import io
import itertools
import json
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st

from research.errors import UserError
from research.text import subwords
from research.text.vocabulary import BEGIN, END, PAD, UNKNOWN, UNKNOWN_SIGN, Vocabulary

UNITS = ('bpe', 'unigram')
SIZE = 80
ODD = 'äßé e\u0301日本語😀\u200d👧 \t\u00a0\u3000\u2028\x85\x0b\x1c\x1f\0\r\n▁▅⁇<s>/pad'  # what others change
LINES = [
    'ein Hund läuft', 'zwei Hunde laufen', 'der Hund  und die Hündin', ' ein Hündchen ', '日本語の 日本 語',
    'lauf, lauf', '<s> </s> <pad> <unk> ⁇', ODD, 'abab ababab aabb bb ab', 'die laufenden Hunde und der Laufende',
    'der Hund und ein Hund', 'abba baba bab aab abb', 'laufende Hunde laufen, zwei Hündchen und eine Hündin',
    'und der Hund, der Hund, der läuft']
TEXT = st.text(st.sampled_from(ODD) | st.sampled_from('ab undHle') | st.characters(exclude_categories=['Cs']))
RESERVED = '\ufdd0\ufdd1\ufdd2\ufdd3\ufdd4\ufdd5\ufdd6\ufdd7'
WORD = 'ababaabb'


@functools.cache
def vocabulary(unit):
    """One of each unit for all tests; all characters of LINES have an id."""
    return Vocabulary.build(LINES, unit, SIZE)


def smallest(lines):
    """Ids of a vocabulary of nothing but characters: the special ones, the characters, the space before each line."""
    return 4 + len(set(''.join(lines)) | {' '})


@pytest.mark.parametrize('unit', UNITS)
def test_a_size_is_the_number_of_ids_and_frequent_words_are_whole(unit):
    assert (len(vocabulary(unit)), vocabulary(unit).unit) == (SIZE, unit)
    ids = vocabulary(unit).encode('der Hund')
    assert (ids.dtype, ids.ndim, ids[-1]) == (np.int32, 1, END)
    assert vocabulary(unit).symbols(ids)[-1] == '▁Hund'
    assert vocabulary(unit).encode('').tolist() == [END]


@pytest.mark.parametrize('unit', UNITS)
@given(line=TEXT)
def test_a_line_comes_back_exactly_or_what_is_unknown_is_named(unit, line):
    ids, unknown = vocabulary(unit).encode(line), vocabulary(unit).unknown(line)
    assert ids[-1] == END
    assert not set(ids[:-1].tolist()) & {PAD, BEGIN, END}
    expected, seen = line, set(''.join(LINES))
    assert unknown == [''.join(run) for new, run in itertools.groupby(line, lambda letter: letter not in seen) if new]
    for part in unknown:
        expected = expected.replace(part, '\ue000', 1)
    assert vocabulary(unit).decode(ids) == expected.replace('\ue000', UNKNOWN_SIGN)
    assert vocabulary(unit).written(line) == line
    assert (ids == UNKNOWN).sum() == len(unknown)


@pytest.mark.parametrize('unit', UNITS)
@settings(max_examples=40)
@given(lines=st.lists(TEXT, min_size=1, max_size=6).filter(lambda lines: ''.join(lines).strip(' ' + RESERVED)))
@example(lines=[f'a{letter}' for letter in ODD])
def test_every_character_that_was_trained_on_has_an_id(unit, lines):
    letters = set(''.join(lines)) - set(RESERVED)
    built = Vocabulary.build(lines, unit, smallest(letters))
    for line in lines:
        assert set(''.join(built.unknown(line))) <= set(RESERVED)
        assert built.unknown(line) or built.decode(built.encode(line)) == line


@pytest.mark.parametrize('unit', UNITS)
@pytest.mark.parametrize('sign', ['<s>', '</s>', '<pad>', '<unk>', UNKNOWN_SIGN, '▁', '▅', ' PAD', ' END'])
def test_text_that_looks_like_a_special_symbol_is_text(unit, sign):
    built = Vocabulary.build([*LINES, 'PEND', *[f'a{sign} {sign} {sign}'] * 50], unit, SIZE)
    ids = built.encode(f'{sign} {sign}b')
    assert ids[:-1].min() > UNKNOWN
    assert built.decode(ids) == f'{sign} {sign}b'


@pytest.mark.parametrize('unit', UNITS)
def test_characters_that_unicode_keeps_free_are_unknown_even_where_they_were_trained_on(unit):
    built = Vocabulary.build(['\tb▁', f'a{RESERVED}'], unit, smallest('\tb▁a'))
    for letter in RESERVED:
        assert built.unknown(f'\tb{letter}▁') == [letter]
        assert built.decode(built.encode(f'\tb{letter}▁')) == f'\tb{UNKNOWN_SIGN}▁'


def test_a_model_has_our_ids_and_nothing_is_normalised():
    for unit in UNITS:
        model = base64.b64decode(json.loads(vocabulary(unit).to_json())['model'])
        peer = sentencepiece.SentencePieceProcessor.from_proto(model)
        assert (peer.pad_id(), peer.bos_id(), peer.eos_id(), peer.unk_id()) == (PAD, BEGIN, END, UNKNOWN)
        assert peer.normalize('  ﬁⅨe\u0301 ') == '▁▁▁ﬁⅨe\u0301▁'
        assert vocabulary(unit).encode('die Hunde')[:-1].tolist() == peer.encode('die Hunde')


def test_decoding_stops_at_the_end_and_skips_padding_and_begin():
    bpe = vocabulary('bpe')
    the, dog, end = bpe.encode('der Hund')
    assert bpe.symbols([BEGIN, the, PAD, dog, end, the]) == ['▁der', '▁Hund']
    assert bpe.decode([BEGIN, the, PAD, dog, end, the]) == 'der Hund'
    assert bpe.decode([UNKNOWN, the, UNKNOWN]) == f'{UNKNOWN_SIGN} der{UNKNOWN_SIGN}'
    assert bpe.symbols(np.array([UNKNOWN], np.int32)) == [UNKNOWN_SIGN]
    for number in (-1, SIZE):
        with pytest.raises(ValueError, match=f'Id {number} '):
            bpe.decode([number])


@pytest.mark.parametrize('unit', UNITS)
def test_a_size_that_does_not_suit_the_text_is_refused_with_the_one_that_would(unit):
    least = smallest(LINES)
    with pytest.raises(UserError, match=rf'size {least - 1} .* {unit} .* at least {least}$'):
        Vocabulary.build(LINES, unit, least - 1)
    assert len(Vocabulary.build(LINES, unit, least)) == least
    with pytest.raises(UserError, match=r'size 6 .* at least 7$'):
        Vocabulary.build(['ab'], unit, 6)  # the space before each line needs an id, too
    with pytest.raises(UserError, match=rf'size 5000 .* {unit} .* at most \d+$') as caught:
        Vocabulary.build(LINES, unit, 5000)
    most = int(str(caught.value).split()[-1])
    assert len(Vocabulary.build(LINES, unit, most)) == most
    with pytest.raises(UserError, match=rf'size {most + 1} .* at most {most}$'):
        Vocabulary.build(LINES, unit, most + 1)


@pytest.mark.parametrize('unit', UNITS)
def test_no_size_and_no_text_are_refused(unit):
    with pytest.raises(UserError, match=f'{unit} needs a size'):
        Vocabulary.build(LINES, unit)
    for lines in ([], [''], ['  ', ''], [RESERVED]):
        with pytest.raises(UserError, match='no symbol'):
            Vocabulary.build(lines, unit, SIZE)


@pytest.mark.parametrize('unit', UNITS)
def test_long_lines_are_trained_on_and_nothing_is_printed(unit, capfd):
    built = Vocabulary.build([*LINES, 'q' * 4300 + 'x', 'z ' * 5000], unit, SIZE)
    assert built.unknown('qxz') == []
    with contextlib.suppress(UserError):
        Vocabulary.build(LINES, unit, 5000)
    with contextlib.suppress(UserError):
        Vocabulary.from_json(json.dumps({'unit': unit, 'model': 'AAAA'}))
    assert capfd.readouterr() == ('', '')


@pytest.mark.slow
@pytest.mark.parametrize('unit', UNITS)
def test_a_character_that_is_rare_in_a_long_text_has_an_id(unit):
    rare = '"b,é\t'
    built = Vocabulary.build(itertools.chain(itertools.repeat('a' * 1000, 40_000), [rare]), unit, smallest('a' + rare))
    assert built.unknown(rare) == []


def test_of_too_many_lines_a_fair_choice_is_read_and_always_the_same():
    lines = [f'{letter} ' * 5 for letter in 'abcdefghijklmnopqrst']
    few = [subwords.build(iter(lines), 'bpe', 9, lines_read=4) for _ in range(2)]
    assert few[0].hash == few[1].hash
    assert len(set(few[0].unknown(' '.join(lines)))) == 16
    assert few[0].unknown(' '.join(lines[:4])) != []  # not the first four
    assert subwords.build(lines, 'bpe', 25, lines_read=20).unknown(' '.join(lines)) == []
    chosen = np.array(subwords._choose(range(100_000), 10_000))
    assert (len(chosen), (np.diff(chosen) > 0).all()) == (10_000, True)
    held, _ = np.histogram(chosen, 10, (0, 100_000))  # 1,000 each, with a standard deviation of 28
    assert abs(held - 1000).max() < 4 * 28


CODE = f'''
from research.text.vocabulary import Vocabulary
lines = {LINES}
for unit in {UNITS}:
    built = Vocabulary.build(lines, unit, {SIZE})
    print(built.hash, *[ids.tolist() for ids in built.samples(lines[2], 5, (3, 4), 0.3)])
'''


def test_the_same_lines_give_the_same_bytes_and_cuts_in_another_process():
    printed = {subprocess.run([sys.executable, '-c', CODE], capture_output=True, text=True, check=True,
                              env={'PYTHONHASHSEED': seed, 'PYTHONPATH': ':'.join(sys.path)}).stdout for seed in '12'}
    here = [' '.join([built.hash, *(str(ids.tolist()) for ids in built.samples(LINES[2], 5, (3, 4), 0.3))])
            for built in map(vocabulary, UNITS)]
    assert printed == {'\n'.join(here) + '\n'}
    assert len({Vocabulary.build(lines, 'bpe', SIZE).hash for lines in (LINES, LINES[::-1])}) == 1


@pytest.mark.parametrize('unit', UNITS)
def test_json_pickle_and_copies_bring_the_same_vocabulary_back(unit):
    built = vocabulary(unit)
    for again in (Vocabulary.from_json(built.to_json()), pickle.loads(pickle.dumps(built)), copy.deepcopy(built)):
        assert (type(again), again.unit, len(again), again.hash) == (type(built), unit, SIZE, built.hash)
        for line in LINES:
            np.testing.assert_array_equal(again.encode(line), built.encode(line))
    assert json.loads(built.to_json()).keys() == {'unit', 'model'}


def as_others_train(unit):
    """A model as SentencePiece makes it when it is told nothing: other ids, and text is normalised by NFKC."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(LINES), model_writer=model, model_type=unit,
                                             vocab_size=SIZE, hard_vocab_limit=False, minloglevel=2)
    return model.getvalue()


def damaged():
    for unit, other in (UNITS, UNITS[::-1]):
        good = json.loads(vocabulary(unit).to_json())
        model = base64.b64decode(good['model'])
        models = [model[:len(model) // 2], model[10:], model.replace(b' PAD', b' DAP'), as_others_train(unit),
                  model.replace('日'.encode(), 'äq'.encode())]
        for bad in (None, 5, ['a'], '', 'a', 'é', good['model'][:-4], good['model'] + '!', 'AAAA',
                    *(base64.b64encode(content).decode() for content in models)):
            yield json.dumps(good | {'model': bad})
        yield json.dumps(good | {'unit': other})
        yield json.dumps(good | {'symbols': []})


def test_a_damaged_vocabulary_is_refused_in_one_line():
    for text in damaged():
        with pytest.raises(UserError) as caught:
            Vocabulary.from_json(text)
        assert str(caught.value).startswith('vocabulary: damaged')
        assert '\n' not in str(caught.value)


def probabilities(unit, word, alpha):
    """The exact distribution of the cuts of a marked word, from SentencePiece's pieces and scores alone."""
    peer = sentencepiece.SentencePieceProcessor.from_proto(base64.b64decode(json.loads(
        vocabulary(unit).to_json())['model']))
    scores = {peer.id_to_piece(number): peer.get_score(number) for number in range(4, len(peer))}
    if unit == 'bpe':
        return by_merges(tuple(word), scores, alpha)
    cuts = []
    for count in range(len(word)):
        for places in itertools.combinations(range(1, len(word)), count):
            cut = tuple(word[start:end] for start, end in itertools.pairwise([0, *places, len(word)]))
            if all(piece in scores for piece in cut):
                cuts.append(cut)
    shares = [math.exp(alpha * sum(scores[piece] for piece in cut)) for cut in cuts]
    return {cut: share / sum(shares) for cut, share in zip(cuts, shares)}


@functools.cache
def reached(pieces, alpha, order):
    """Provilkov's algorithm 1 as a tree: the first merge that is kept is made, or none is."""
    scores = dict(order)
    merges = sorted((-scores[a + b], place) for place, (a, b) in enumerate(itertools.pairwise(pieces))
                    if a + b in scores)
    found, kept = collections.Counter({pieces: alpha ** len(merges)}), 1.0
    for _, place in merges:
        after = (*pieces[:place], pieces[place] + pieces[place + 1], *pieces[place + 2:])
        for cut, share in reached(after, alpha, order).items():
            found[cut] += kept * (1 - alpha) * share
        kept *= alpha
    return found


def by_merges(pieces, scores, alpha):
    return reached(pieces, alpha, tuple(scores.items()))


@pytest.mark.parametrize(('unit', 'alpha'), [('bpe', 0.3), ('bpe', 0.7), ('unigram', 0.3), ('unigram', 1.0),
                                             ('unigram', 0.0)])
def test_random_cuts_are_as_likely_as_the_papers_say(unit, alpha):
    exact = probabilities(unit, '▁' + WORD, alpha)
    assert math.isclose(sum(exact.values()), 1)
    assert len(exact) > 10
    count = 4000
    found = collections.Counter(tuple(vocabulary(unit).symbols(ids))
                                for ids in vocabulary(unit).samples(WORD, count, 5, alpha))
    assert found.keys() <= exact.keys()
    for cut, share in exact.items():
        assert abs(found[cut] - count * share) < 4.5 * math.sqrt(count * share * (1 - share)) + 1, cut


@pytest.mark.parametrize(('unit', 'best', 'cut_up'), [('bpe', 0, 1), ('unigram', 1000, 0)])
@given(line=TEXT)
@settings(max_examples=50)
def test_at_the_ends_of_its_range_alpha_gives_the_best_cut_and_the_most_random_one(unit, best, cut_up, line):
    built = vocabulary(unit)
    np.testing.assert_array_equal(built.sample(line, 0, best), built.encode(line))
    if unit == 'bpe':
        pieces = [*('▁' + line.replace(' ', '▁'))] if line else []
        assert [piece for piece in built.symbols(built.sample(line, 0, cut_up)) if piece != UNKNOWN_SIGN] == [
            piece for piece in pieces if not built.unknown(piece) and piece != UNKNOWN_SIGN]


@pytest.mark.parametrize(('unit', 'alpha'), [('bpe', 0.2), ('unigram', 0.2)])
@given(line=TEXT, seed=st.integers(0, 2 ** 64))
@settings(max_examples=50)
def test_every_random_cut_is_decoded_to_the_same_text(unit, alpha, line, seed):
    built = vocabulary(unit)
    samples = built.samples(line, 3, seed, alpha)
    for ids in samples:
        assert (ids.dtype, ids[-1]) == (np.int32, END)
        assert not set(ids[:-1].tolist()) & {PAD, BEGIN, END}
        assert built.decode(ids) == built.decode(built.encode(line))
    np.testing.assert_array_equal(built.sample(line, seed, alpha), samples[0])


@pytest.mark.parametrize(('unit', 'alpha'), [('bpe', 0.5), ('unigram', 0.1)])
def test_cuts_differ_from_seed_to_seed_and_from_each_other(unit, alpha):
    line = LINES[1] * 4
    assert len({ids.tobytes() for ids in vocabulary(unit).samples(line, 20, 1, alpha)}) > 15
    assert len({vocabulary(unit).sample(line, (1, seed), alpha).tobytes() for seed in range(20)}) > 15


@pytest.mark.parametrize(('unit', 'alpha'), [('bpe', -0.1), ('bpe', 1.1), ('bpe', math.nan), ('unigram', -0.1),
                                             ('unigram', 1001), ('unigram', math.inf), ('unigram', math.nan)])
def test_an_alpha_out_of_range_is_refused(unit, alpha):
    with pytest.raises(UserError, match=rf'alpha is {alpha}; for {unit} .* 0 to '):
        vocabulary(unit).sample('a', 0, alpha)


@pytest.mark.parametrize('unit', UNITS)
def test_threads_do_not_disturb_each_other(unit):
    lines = [f'{line} {number}' for number in range(20) for line in LINES]

    def cut(line):
        return vocabulary(unit).encode(line).tolist(), vocabulary(unit).sample(line, 7, 0.4).tolist()
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        assert list(threads.map(cut, lines)) == list(map(cut, lines))


def test_every_line_of_a_real_corpus_comes_back(shared_data):
    with gzip.open(shared_data / 'multi30k' / 'train.de.gz', 'rt', encoding='utf-8', newline='\n') as file:
        lines = [line.removesuffix('\n') for line in file]
    built = Vocabulary.build(lines, 'bpe', 4000)
    assert (len(lines), len(built)) == (29_000, 4000)
    for line in lines:
        ids = built.encode(line)
        assert built.decode(ids) == built.written(line) == line
    assert built.unknown('\t\u00a0') == []  # both stand in some lines
    for number, line in enumerate(lines[::100]):
        assert built.decode(built.sample(line, number, 0.1)) == line
