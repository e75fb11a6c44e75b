"""The translator and the scorer: with a model that copies by construction, and with random Transformers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import build, translator
from research.build import Decoding
from research.errors import UserError
from research.models.contract import Decoded, EncoderDecoder
from research.text.vocabulary import Vocabulary
from research.translator import Said, Sampling, Scorer, Translator, remark_cut, remark_unknown
from tests.interop.models import DECODER, ENCODER, transformer, values

LETTERS = 'abcdefghij'
GREEDY = Decoding(beams=1, length_penalty=0.0, penalise_by='wu', coverage_penalty=0.0, maximum_ratio=1.0,
                  maximum_extra=1, tokens=256)
WIDE = GREEDY._replace(beams=4, length_penalty=1.0, maximum_ratio=2.0, maximum_extra=3)
DRAWN = Sampling(3, 1.0, None, 1.0, 5)


class Copier(EncoderDecoder):
    """Writes the source symbol at the position it stands at, and reads `shift` beside it."""

    vocabulary: int
    shift: int = 0

    def encode(self, source, places, rng=None):
        return source

    def _at(self, memory, position):
        S = memory.shape[1]
        hidden = 50.0 * jax.nn.one_hot(jnp.take_along_axis(memory, jnp.minimum(position, S - 1), axis=1),
                                       self.vocabulary)
        return hidden, jax.nn.one_hot(jnp.clip(position + self.shift, 0, S - 1), S)[:, None]

    def decode(self, memory, inputs, places, rng=None):
        hidden, weights = self._at(memory, places.position)
        return Decoded(hidden, weights, jnp.zeros(()))

    def start(self, memory, length):
        return jnp.zeros(memory.shape[0], jnp.int32)

    def step(self, memory, carry, token):
        hidden, weights = self._at(memory, carry[:, None])
        return hidden[:, 0], weights[:, :, 0], carry + 1

    def logits(self, hidden):
        return hidden


@pytest.fixture(scope='module')
def letters():
    return Vocabulary.build([LETTERS], 'characters')


def lines(count):
    random = np.random.default_rng(0)
    return [''.join(random.choice(list(LETTERS), random.integers(0, 20))) for _ in range(count)]


@pytest.mark.parametrize('count', [1, 5, 70])
@pytest.mark.parametrize('beams', [1, 3])
def test_every_line_comes_back_in_its_place_whatever_its_length(letters, count, beams):
    copying = Translator(Copier(len(letters)), letters, letters, GREEDY._replace(beams=beams))
    sources = lines(count)
    assert [found.text for found in copying({}, sources)] == sources
    assert len(copying) <= 6  # source lengths 8, 16, 32, with few rows or many


@pytest.mark.parametrize('sampling', [None, DRAWN])
def test_batches_beside_one_another_are_batches_one_after_another(letters, sampling, monkeypatch):
    told, sources = [], lines(40)
    decoding = GREEDY._replace(beams=2, tokens=32)  # one to two lines in a batch

    def copied():
        made = Translator(Copier(len(letters)), letters, letters, decoding, sampling=sampling,
                          progress=lambda *numbers: told.append(numbers))
        return [[one.text for one in outputs] for outputs in made.n_best({}, sources)]
    monkeypatch.setattr(translator.compiling, 'cores', lambda: 1)
    expected = copied()
    assert [outputs[0] for outputs in expected] == sources
    monkeypatch.setattr(translator.compiling, 'cores', lambda: 3)
    assert copied() == expected
    half = len(told) // 2
    assert told[:half] == told[half:]
    assert told[-1] == (40, 40)


def test_lines_of_a_batch_are_of_like_length(letters):
    sources = ['a' * (10 + number % 5) for number in range(20)]
    made = Translator(Copier(len(letters)), letters, letters, GREEDY._replace(tokens=64))  # four in a batch
    groups = made._groups([letters.encode(line) for line in sources])
    assert [[len(sources[index]) for index in members] for _, _, members in groups] == [[10 + n] * 4 for n in range(5)]
    assert [found.text for found in made({}, sources)] == sources


def test_weights_have_a_row_for_each_written_symbol_and_a_column_for_each_source_symbol(letters):
    copying = Translator(Copier(len(letters)), letters, letters, GREEDY, with_weights=True)
    found = copying({}, ['abc', 'jihgfedcba'])
    for translation, text in zip(found, ('abc', 'jihgfedcba'), strict=True):
        assert translation.source == translation.written == [*text, '</s>']
        np.testing.assert_array_equal(translation.weights, np.eye(len(text) + 1)[None])


@pytest.mark.parametrize('beams', [1, 3])
def test_an_output_is_cut_at_its_own_limit_whatever_room_its_batch_has(letters, beams):
    decoding = GREEDY._replace(beams=beams, maximum_ratio=0.5, maximum_extra=2)  # too little for long lines
    copying = Translator(Copier(len(letters)), letters, letters, decoding)
    sources = ['ab', 'abcdefgh', 'abcdefghij' * 2]
    together = copying({}, sources)
    for source, found in zip(sources, together, strict=True):
        limit = int(0.5 * (len(source) + 1)) + 2
        assert len(found.written) <= limit
        if beams == 1:  # several beams rank an output that ended, however improbable, before one that was cut
            assert len(found.written) == min(limit, len(source) + 1)
            assert found.finished == (limit > len(source))
        alone, = copying({}, [source])
        assert (alone.text, alone.finished) == (found.text, found.finished)


def test_lengths_are_rounded_up_only_as_far_as_there_are_positions(letters):
    decoding = GREEDY._replace(longest_source=20, longest_target=15)
    copying = Translator(Copier(len(letters)), letters, letters, decoding)
    assert copying.shapes(['a' * 19]) == [(8, 20)]
    assert [len(found.written) for found in copying({}, ['a' * 19, 'abc'])] == [15, 4]
    with pytest.raises(UserError, match=r'line 2 has 21 symbols, its end among them, and the encoder has positions '
                                        r'for 20 \(encoder\.maximum_length\)'):
        copying.shapes(['abc', 'a' * 20])


def test_unknown_symbols_and_cut_outputs_are_told(letters, capsys):
    remark_unknown('standard input', letters, ['abc', 'aXbY', 'Z'])
    assert capsys.readouterr().err == ("standard input: 3 unknown source symbols in 2 of 3 lines; the first is 'X' in "
                                       'line 2\n')
    found = Translator(Copier(len(letters)), letters, letters, GREEDY._replace(maximum_ratio=0.1, maximum_extra=2))(
        {}, ['a', 'abcdef'])
    remark_cut(found)
    assert '1 of 2 outputs were cut' in (told := capsys.readouterr().err)
    assert 'the first in line 2' in told
    remark_unknown('standard input', letters, ['abc'])
    remark_cut(found[:1])
    assert capsys.readouterr().err == ''


def test_progress_is_told_every_few_seconds(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(translator.time, 'monotonic', lambda: now[0])
    progress = Said(every=10)
    for done in (100, 200, 300, 400):
        now[0] += 6
        progress(done, 400)
    assert capsys.readouterr().err == '200 of 400 lines read, about 12 s left\n'


def test_progress_counts_the_lines_before_the_first(letters):
    told = []
    common = Copier(len(letters)), letters, letters, GREEDY._replace(tokens=16), False
    Translator(*common, lambda *numbers: told.append(numbers))({}, ['a', 'b', 'c'], first=11)  # one, then two
    Scorer(*common, lambda *numbers: told.append(numbers))({}, ['a', 'b'], ['a', 'b'], first=11)  # one at a time
    assert told == [(11, 13), (13, 13), (11, 12), (12, 12)]


@pytest.mark.parametrize('beams', [1, 3])
def test_an_empty_line_has_an_empty_output_whatever_the_model_would_write(letters, beams):
    class Talker(Copier):
        def logits(self, hidden):
            return 0 * hidden + jnp.arange(hidden.shape[-1])
    found = Translator(Talker(len(letters)), letters, letters, GREEDY._replace(beams=beams), True)({}, ['', 'ab'])
    assert (found[0].text, found[0].written, found[0].finished, found[0].score) == ('', [], True, 0.0)
    assert found[1].text


def test_scores_of_a_copier_are_those_of_its_logits(letters):
    """By hand: the right symbol has 50 and each of the V - 1 others 0."""
    scorer = Scorer(Copier(len(letters)), letters, letters, GREEDY, with_weights=True)
    right = -np.log1p((len(letters) - 1) * np.exp(-50.0))
    found = scorer({}, ['abc', 'abc', '', 'ab'], ['abc', 'abd', '', ''])
    expected = [4 * right, 3 * right - 50.0, 0.0, -50.0]
    np.testing.assert_allclose([one.score for one in found], expected, atol=1e-5)
    assert [one.written for one in found] == [[*'abc', '</s>'], [*'abd', '</s>'], [], ['</s>']]
    assert [one.weights.shape for one in found] == [(1, 4, 4), (1, 4, 4), (1, 0, 1), (1, 1, 3)]
    np.testing.assert_array_equal(found[1].weights[0], np.eye(4))


def test_what_cannot_be_scored_is_named_by_its_line(letters):
    scorer = Scorer(Copier(len(letters)), letters, letters, GREEDY._replace(longest_source=20, longest_target=15))
    for source, target, said in (('', 'a', 'line 8: the source is empty and the target is not'),
                                 ('a' * 20, 'a', 'line 8: the source has 21 symbols.* positions for 20'),
                                 ('a', 'a' * 15, 'line 8: the target has 16 symbols.* positions for 15')):
        with pytest.raises(UserError, match=said):
            scorer({}, ['a', source], ['a', target], first=7)


# ------------------------------------------------------------------------------------------------- random Transformers

TARGET = Vocabulary.build(['k l m n o p'], 'words')
TEXTS = ['abc', 'jihgfe', '', 'aaaaaaa', 'dc', 'abcdefghijabc', 'bbd']


@pytest.fixture(scope='module')
def random(letters):
    """A model, its parameters, with which it ends after a few symbols or not at all, and the vocabularies."""
    model = transformer(ENCODER | {'layers': 1}, DECODER | {'layers': 1, 'softmax_bias': True}, len(letters),
                        len(TARGET))
    params = jax.tree.map(lambda leaf: 1.5 * leaf, values(build.abstract_params(model), 4))
    params['decoder']['scores_bias'] = np.float32([0, 0, 0, -30] + [0] * (len(TARGET) - 4))
    return model, params, letters, TARGET


@pytest.fixture(scope='module')
def searched(random):
    """A translator of several beams that returns what was read, and all that it finds for TEXTS."""
    model, params, *vocabularies = random
    made = Translator(model, *vocabularies, WIDE, with_weights=True, best=WIDE.beams)
    return made, made.n_best(params, TEXTS)


@pytest.fixture(scope='module')
def scorer(random):
    model, params, *vocabularies = random
    return functools.partial(Scorer(model, *vocabularies, WIDE, with_weights=True), params)


@pytest.fixture(scope='module')
def drawn(random):
    model, params, *vocabularies = random
    return functools.partial(Translator(model, *vocabularies, WIDE, sampling=DRAWN).n_best, params)


def equal(one, other):
    """The same symbols, and scores that differ in their last digits at most."""
    assert [found.written for found in one] == [found.written for found in other]
    np.testing.assert_allclose([(found.score, found.penalised) for found in one],
                               [(found.score, found.penalised) for found in other], rtol=1e-5, atol=1e-5)


def test_the_outputs_of_a_line_are_different_and_ranked_and_the_first_is_the_answer(random, searched):
    made, found = searched
    best = made(random[1], TEXTS)
    for line, outputs, first in zip(TEXTS, found, best, strict=True):
        assert (len(outputs) == 4) if line else (len(outputs) == 1)
        assert len({tuple(one.written) for one in outputs}) == len(outputs)
        order = [(not one.finished, -one.penalised) for one in outputs]
        assert order == sorted(order)
        equal([first], outputs[:1])
    assert len({one.text for one in best}) > 3


@pytest.mark.parametrize('best', [1, 2])
def test_fewer_outputs_are_the_first_ones(random, searched, best):
    model, params, *vocabularies = random
    for outputs, every in zip(Translator(model, *vocabularies, WIDE, best=best).n_best(params, TEXTS), searched[1],
                              strict=True):
        equal(outputs, every[:best])
        assert len(outputs) == min(best, len(every))


def test_many_lines_together_are_as_each_alone(random, searched):
    made, found = searched
    for line, outputs in zip(TEXTS, found, strict=True):
        alone, = made.n_best(random[1], [line])
        equal(alone, outputs)
    assert len(made) == 2  # source lengths 8 and 16


def test_scores_are_those_of_the_formula_and_of_forced_decoding(searched, scorer):
    """By the definition of the length penalty 'wu' with alpha = 1; forced decoding reads all symbols at once."""
    outputs = [(line, one) for line, found in zip(TEXTS, searched[1], strict=True) for one in found if one.finished]
    forced = scorer([line for line, _ in outputs], [one.text for _, one in outputs])
    for (_, one), other in zip(outputs, forced, strict=True):
        assert one.written == other.written
        assert one.source == other.source
        assert one.score == pytest.approx(other.score, abs=1e-4)
        assert one.penalised == pytest.approx(one.score / ((5 + len(one.written)) / 6), abs=1e-5)
        np.testing.assert_allclose(one.weights, other.weights, atol=1e-5)
    assert len(outputs) > 10


def test_a_line_is_scored_the_same_whatever_stands_beside_it(scorer):
    targets = ['k', 'l m n', '', 'o o o o o o o o o', '', 'p', 'k l']
    for line, target, found in zip(TEXTS, targets, scorer(TEXTS, targets), strict=True):
        equal(scorer([line], [target]), [found])
        assert (found.score == 0) == (line == '')


def test_a_prefix_stands_at_the_beginning_of_every_output_of_its_line_and_changes_no_other(random, searched, scorer):
    made, found = searched
    prefixes, ended = ['n m', '', '', 'p', '', 'k k k', ''], []
    for line, prefix, outputs, before in zip(TEXTS, prefixes, made.n_best(random[1], TEXTS, prefixes), found,
                                             strict=True):
        if not prefix:
            equal(outputs, before)
            continue
        assert len(outputs) == 4
        for one in outputs:
            assert one.symbols[:len(prefix.split())] == prefix.split()
        ended += [(line, one) for one in outputs if one.finished]
    assert len(ended) > 3
    np.testing.assert_allclose([one.score for _, one in ended], [one.score for one in scorer(
        [line for line, _ in ended], [one.text for _, one in ended])], atol=1e-4)


def test_prefixes_that_leave_no_room_or_belong_to_nothing_are_named_by_their_line(random, searched):
    made, _ = searched
    with pytest.raises(UserError, match=r'line 6: a prefix of 9 symbols for an output of at most 9 '):
        made(random[1], ['a', 'bc'], ['', 'k ' * 9], first=5)
    with pytest.raises(UserError, match=r'line 5 is empty, and so is its output: its prefix must be empty, too'):
        made(random[1], ['', 'bc'], ['k', ''], first=5)


def test_what_is_drawn_depends_on_its_seed_and_the_number_of_its_line_alone(drawn, scorer):
    found = drawn(TEXTS)
    assert [len(outputs) for outputs in found] == [3] * len(TEXTS)
    assert any(outputs[0].written != outputs[1].written for outputs in found)
    for one, other in zip(drawn(TEXTS), found, strict=True):
        equal(one, other)
    others = drawn(['ccc', 'jihgfe', 'b', 'dcba', 'cd', 'abcdefghijabc', 'h'])
    for number, (one, other) in enumerate(zip(others, found, strict=True)):
        assert [a.written for a in one] != [b.written for b in other] or number in (1, 5)
    alone, = drawn(['jihgfe'], first=2)
    equal(alone, found[1])
    elsewhere, = drawn(['jihgfe'], first=3)
    assert [one.written for one in elsewhere] != [one.written for one in found[1]]
    ended = [(line, one) for line, outputs in zip(TEXTS, found, strict=True) for one in outputs if one.finished]
    np.testing.assert_allclose([one.score for _, one in ended], [one.score for one in scorer(
        [line for line, _ in ended], [one.text for _, one in ended])], atol=1e-4)


def test_how_outputs_are_found_is_said(random):
    model, _, *vocabularies = random
    for decoding, sampling, said in (
            (GREEDY, None, 'greedy'), (WIDE._replace(coverage_penalty=0.2), None,
                                       'beam 4, length penalty 1 (wu), coverage penalty 0.2'),
            (WIDE._replace(patience=1.5), None, 'beam 4, length penalty 1 (wu), patience 1.5'),
            (WIDE, DRAWN, 'sampling, temperature 1, seed 5'),
            (WIDE, Sampling(2, 0.7, 20, 0.9, 0), 'sampling, temperature 0.7, top_k 20, top_p 0.9, seed 0')):
        assert Translator(model, *vocabularies, decoding, sampling=sampling).describe() == said
