"""The translator and the alignment scores, with a model that copies by construction: what goes in comes back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import evaluate, translate
from research.build import Decoding
from research.errors import UserError
from research.models.contract import Decoded, EncoderDecoder
from research.text.corpus import Pair
from research.text.vocabulary import Vocabulary
from research.translate import Translator

LETTERS = 'abcdefghij'
GREEDY = Decoding(beams=1, length_penalty=0.0, maximum_ratio=1.0, maximum_extra=1, tokens=256)


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
    translator = Translator(Copier(len(letters)), letters, letters, GREEDY._replace(beams=beams))
    sources = lines(count)
    assert [found.text for found in translator({}, sources)] == sources
    assert len(translator._programs) <= 6  # source lengths 8, 16, 32, with few rows or many


def test_weights_have_a_row_for_each_written_symbol_and_a_column_for_each_source_symbol(letters):
    translator = Translator(Copier(len(letters)), letters, letters, GREEDY, with_weights=True)
    found = translator({}, ['abc', 'jihgfedcba'])
    for translation, text in zip(found, ('abc', 'jihgfedcba'), strict=True):
        assert translation.source == translation.written == [*text, '</s>']
        np.testing.assert_array_equal(translation.weights, np.eye(len(text) + 1)[None])


@pytest.mark.parametrize(('shift', 'expected'), [(0, (0.0, 0, 0.0)), (1, (1.0, 1, 0.0))])
def test_alignment_scores_compare_each_pair_with_its_own_gold(letters, shift, expected):
    sources = [line for line in lines(40) if len(line) > 1]
    pairs = [Pair(line, line, (), tuple((at, at) for at in range(len(line)))) for line in sources]
    scores = evaluate.alignment_scores(Copier(len(letters), shift), {}, letters, letters, pairs)
    rate, best, shifted = expected
    assert scores['shift'] == best
    assert scores['error_rate'] == pytest.approx(rate, abs=1e-9)
    assert scores['error_rate_shifted'] == pytest.approx(shifted, abs=0.1)


def test_accuracy_by_length_counts_every_pair_once(letters):
    translator = Translator(Copier(len(letters)), letters, letters, GREEDY)
    sources = [line for line in lines(50) if line]
    pairs = [Pair(line, line if number % 2 else 'x' + line, ('?',)) for number, line in enumerate(sources)]
    result = evaluate.evaluate(translator, {}, pairs, (1, 5, 11))
    assert sum(bucket['count'] for bucket in result.by_length) == len(pairs)
    assert result.scores['accuracy'] == pytest.approx(np.mean(np.arange(len(pairs)) % 2))


def test_an_answer_with_other_spaces_between_its_words_is_right_and_characters_are_counted_as_such():
    words = Vocabulary.build(['a b c'], 'words')
    copier = Copier(len(words))
    pairs = [Pair('a b', ' a  b '), Pair('b c', 'b b')]
    result = evaluate.evaluate(Translator(copier, words, words, GREEDY), {}, pairs, (1, 5))
    assert result.right.tolist() == [True, False]
    assert result.scores['token_error_rate'] == pytest.approx(1 / 4)
    letters = Vocabulary.build(['abcdefgh i'], 'characters')
    result = evaluate.evaluate(Translator(Copier(len(letters)), letters, letters, GREEDY), {},
                               [Pair('abc defg', 'abc defh')], (1, 5))
    assert result.scores['token_error_rate'] == pytest.approx(1 / 8)


@pytest.mark.parametrize('beams', [1, 3])
def test_an_output_is_cut_at_its_own_limit_whatever_room_its_batch_has(letters, beams):
    decoding = GREEDY._replace(beams=beams, maximum_ratio=0.5, maximum_extra=2)  # too little for long lines
    translator = Translator(Copier(len(letters)), letters, letters, decoding)
    sources = ['ab', 'abcdefgh', 'abcdefghij' * 2]
    together = translator({}, sources)
    for source, found in zip(sources, together, strict=True):
        limit = int(0.5 * (len(source) + 1)) + 2
        assert len(found.written) <= limit
        if beams == 1:  # several beams rank an output that ended, however improbable, before one that was cut
            assert len(found.written) == min(limit, len(source) + 1)
            assert found.finished == (limit > len(source))
        alone, = translator({}, [source])
        assert (alone.text, alone.finished) == (found.text, found.finished)


def test_lengths_are_rounded_up_only_as_far_as_there_are_positions(letters):
    decoding = GREEDY._replace(longest_source=20, longest_target=15)
    translator = Translator(Copier(len(letters)), letters, letters, decoding)
    assert translator.shapes(['a' * 19]) == [(8, 20)]
    assert [len(found.written) for found in translator({}, ['a' * 19, 'abc'])] == [15, 4]
    with pytest.raises(UserError, match=r'line 2 has 21 symbols, its end among them, and the encoder has positions '
                                        r'for 20 \(encoder\.maximum_length\)'):
        translator.shapes(['abc', 'a' * 20])


def test_unknown_symbols_and_cut_outputs_are_told(letters, capsys):
    translate.remark_unknown('standard input', letters, ['abc', 'aXbY', 'Z'])
    assert capsys.readouterr().err == ("standard input: 3 unknown source symbols in 2 of 3 lines; the first is 'X' in "
                                       'line 2\n')
    found = Translator(Copier(len(letters)), letters, letters, GREEDY._replace(maximum_ratio=0.1, maximum_extra=2))(
        {}, ['a', 'abcdef'])
    translate.remark_cut(found)
    assert '1 of 2 outputs were cut' in (told := capsys.readouterr().err)
    assert 'the first in line 2' in told
    translate.remark_unknown('standard input', letters, ['abc'])
    translate.remark_cut(found[:1])
    assert capsys.readouterr().err == ''


def test_progress_is_told_every_few_seconds(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(translate.time, 'monotonic', lambda: now[0])
    progress = translate.Progress(every=10)
    for done in (100, 200, 300, 400):
        now[0] += 6
        progress(done, 400)
    assert capsys.readouterr().err == '200 of 400 lines, about 12 s left\n'


@pytest.mark.parametrize('beams', [1, 3])
def test_an_empty_line_has_an_empty_output_whatever_the_model_would_write(letters, beams):
    class Talker(Copier):
        def logits(self, hidden):
            return 0 * hidden + jnp.arange(hidden.shape[-1])
    found = Translator(Talker(len(letters)), letters, letters, GREEDY._replace(beams=beams), True)({}, ['', 'ab'])
    assert (found[0].text, found[0].written, found[0].finished) == ('', [], True)
    assert found[1].text


def test_the_score_line_says_how_many_outputs_were_cut(letters):
    translator = Translator(Copier(len(letters)), letters, letters, GREEDY._replace(maximum_ratio=0.5))
    result = evaluate.evaluate(translator, {}, [Pair('abcdef', 'abcdef'), Pair('a', 'a')], (1, 5))
    line = evaluate.score_line('test', 7, translator, result)
    assert '1 of these outputs cut at their limit, step 7' in line  # `a` and its end fit
    whole = evaluate.evaluate(Translator(Copier(len(letters)), letters, letters, GREEDY), {}, [Pair('a', 'a')], (1, 5))
    assert 'cut' not in evaluate.score_line('test', 7, translator, whole)
