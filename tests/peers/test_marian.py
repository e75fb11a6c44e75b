"""A checkpoint that transformers wrote, read here: the same ids, scores and greedy outputs."""

import json

import jax
import numpy as np
import pytest

from research.decoding.greedy import greedy
from research.interop import marian
from research.models import contract
from research.shapes import Places
from tests.interop.models import transformer
from tests.peers.conftest import difference

pytestmark = pytest.mark.peer

LINES = ['a dog sees the cat', '>>deu<< the bird, 7 dogs', 'cats  and birds']
TARGETS = ['ein Hund sieht die Katze', 'der Vogel 7', 'Katzen und Vögel sehen']


def padded(rows, length):
    ids = np.zeros((len(rows), length), np.int32)
    for row, found in zip(ids, rows, strict=True):
        row[:len(found)] = found
    position = np.broadcast_to(np.arange(length, dtype=np.int32), ids.shape)
    return ids, Places((position < np.array([[len(row)] for row in rows])).astype(np.int32), position)


@pytest.mark.parametrize('together', [True, False])
def test_a_marian_checkpoint_says_the_same_as_in_transformers(ask, tmp_path, record_property, together):
    folder = tmp_path / 'checkpoint'
    told = ask('marian', 'marian', {'folder': str(folder), 'together': together, 'lines': LINES, 'targets': TARGETS},
               {}, types=('float32',))
    theirs = {name.removeprefix('float32/output/'): array for name, array in told.items()}
    config, params, source, target = marian.load(folder)
    tables = {file: json.loads((folder / file).read_text()) for file in ('vocab.json', 'target_vocab.json')
              if (folder / file).exists()}
    rows, columns = (order_of(table) for table in (tables['vocab.json'], [*tables.values()][-1]))
    sources, targets = [source.encode(line) for line in LINES], [target.encode(line) for line in TARGETS]
    for ours, given, order in ((sources, theirs['source'], rows), (targets, theirs['targets'], columns)):
        for row, other in zip(ours, given, strict=True):
            np.testing.assert_array_equal(order[row - 1], other[:len(row)])
    model = transformer(config['encoder'], config['decoder'], len(source), len(target), config['share_embeddings'])
    ids, places = padded(sources, theirs['source'].shape[1])
    wanted, wanted_places = padded(targets, theirs['targets'].shape[1])
    inputs = np.concatenate([np.full((len(LINES), 1), 1, np.int32), wanted[:, :-1]], axis=1)

    @jax.jit
    def scores(params):
        memory = contract.encode(model, params, ids, places)
        return contract.logits(model, params, contract.decode(model, params, memory, inputs, wanted_places).hidden)
    found, real = np.asarray(scores(params)), wanted_places.segment > 0
    apart = difference(found[real][:, 1:], theirs['logits'][real][:, columns])
    record_property('peer', ('transformers MarianMTModel', f'Marian, {"one table" if together else "two tables"}, '
                             'read from its files', 'float32', apart, None))
    assert apart < 1e-4
    written = np.asarray(jax.jit(lambda params: greedy(model, params, ids, places, length=12).tokens)(params))[:, 0]
    texts = [target.decode(row) for row in written]
    for row, other, text, said in zip(written, theirs['written'][:, 1:], texts,
                                      json.loads((folder / 'texts.json').read_text()), strict=True):
        row = row[row > 0]
        np.testing.assert_array_equal(columns[row - 1], other[:len(row)])
        assert '</s>' in said or len(row) == 12
        said = said.replace('<pad>', '').replace('</s>', '').replace('<unk>', '⁇')
        assert text.replace(' ', '') == said.replace(' ', '')
    assert len({tuple(row) for row in written.tolist()}) == len(LINES), written


def order_of(table):
    """Marian's id of each id here, from BEGIN on."""
    special = [table['<pad>'], table['</s>'], table['<unk>']]
    return np.array(special + [number for number in range(len(table)) if number not in special])
