"""The vocabulary of a Marian checkpoint: pieces by SentencePiece, ids by a table of their own."""

import base64
import io
import json

import numpy as np
import pytest
import sentencepiece

from research.errors import UserError
from research.text.marian import Marian
from research.text.vocabulary import END, UNKNOWN

LINES = ['a dog sees the cat', 'the cat sees a dog and a bird', 'birds and dogs see cats'] * 4


def a_model():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(LINES), model_writer=model, vocab_size=30,
                                             hard_vocab_limit=False, minloglevel=2)
    return model.getvalue()


MODEL = a_model()
PROCESSOR = sentencepiece.SentencePieceProcessor.from_proto(MODEL)
PIECES = ['>>deu<<', *sorted(PROCESSOR.id_to_piece(number) for number in range(3, len(PROCESSOR)))]
VOCABULARY = Marian(PIECES, MODEL)


@pytest.mark.parametrize('line', ['a dog', 'the birds  see  a cat', '', 'dog'])
def test_a_line_becomes_the_ids_of_the_pieces_of_the_library(line):
    ids = VOCABULARY.encode(line)
    assert ids.dtype == np.int32
    assert [PIECES[number - 4] for number in ids[:-1]] == PROCESSOR.encode(line, out_type=str)
    assert ids[-1] == END
    assert VOCABULARY.decode(ids) == VOCABULARY.written(line) == ' '.join(line.split())


def test_a_language_code_is_a_piece_of_its_own_at_the_beginning_only():
    assert VOCABULARY.symbols(VOCABULARY.encode('>>deu<< a dog'))[0] == '>>deu<<'
    assert VOCABULARY.encode('>>deu<< a dog')[1:].tolist() == VOCABULARY.encode('a dog').tolist()
    assert VOCABULARY.encode('>>fra<< a')[0] == UNKNOWN
    assert VOCABULARY.unknown('>>fra<< a') == ['>>fra<<']
    assert '>>deu<<' not in VOCABULARY.symbols(VOCABULARY.encode('a >>deu<<'))


def test_what_has_no_id_is_unknown_and_named():
    ids = VOCABULARY.encode('a 7 dog')
    assert UNKNOWN in ids
    assert len(VOCABULARY.unknown('a 7 dog')) == np.sum(ids == UNKNOWN)
    assert VOCABULARY.decode([UNKNOWN, END]) == '⁇'


def test_it_is_stored_and_read_again():
    content = json.loads(VOCABULARY.to_json())
    assert content.pop('unit') == 'marian'
    same = Marian.from_text(**content)
    assert (same.hash, len(same)) == (VOCABULARY.hash, len(PIECES) + 4)
    assert same.encode('a dog').tolist() == VOCABULARY.encode('a dog').tolist()
    assert Marian(PIECES[1:], MODEL).hash != VOCABULARY.hash


@pytest.mark.parametrize(('symbols', 'model', 'said'), [
    ([], base64.b64encode(MODEL).decode(), 'there is no piece'), (['a', 'a'], '', "'a' is there more than once"),
    (['\ud800'], '', 'cannot be one of its pieces'), ([''], '', 'cannot be one'), ([3], '', 'cannot be one'),
    ('ab', '', 'must be a list'), (['a'], 'ab!', 'base64'), (['a'], 3, 'base64'),
    (['a'], base64.b64encode(b'no model').decode(), 'none of SentencePiece'), (['a'], '', 'none of SentencePiece')])
def test_what_is_damaged_is_refused(symbols, model, said):
    with pytest.raises(UserError, match=said):
        Marian.from_text(symbols, model)
