"""Search of JoeyNMT with parameters that came from elsewhere.

    python joeynmt_decode.py FOLDER

FOLDER holds model.json (the sections `model` and `special_symbols` of a config), vocabulary.txt, state.npz and
sources.json, sentences as lists of symbols. It answers {"beams", "penalty", "limit", "batch", "first", "last"} with the
output tokens of sentences [first, last), ends counted, and the seconds; with {"outputs": FILE} it writes the outputs
there, too. Batches are made as its own prediction makes them: so many sentences in their order, the longest first.
"""

import importlib.metadata
import json
import os
import pathlib
import sys
import time
import types

answers = os.fdopen(os.dup(1), 'w')  # whatever else is written to standard output goes where errors go
os.dup2(2, 1)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from joeynmt.batch import Batch  # noqa: E402
from joeynmt.model import build_model  # noqa: E402
from joeynmt.search import search  # noqa: E402
from joeynmt.vocabulary import Vocabulary  # noqa: E402


def load(folder):
    """The model with its parameters, and the vocabulary."""
    sections = json.loads((folder / 'model.json').read_text(encoding='utf-8'))
    symbols = (folder / 'vocabulary.txt').read_text(encoding='utf-8').split('\n')[:-1]
    vocabulary = Vocabulary(symbols, types.SimpleNamespace(**sections['special_symbols'], sep_token=None, lang_tags=[]))
    model = build_model(sections['model'], vocabulary, vocabulary)
    with np.load(folder / 'state.npz') as state:
        missing, unexpected = model.load_state_dict({name: torch.from_numpy(state[name]) for name in state.files},
                                                    strict=False)
    if unexpected or not all(name.endswith('.pe.pe') for name in missing):
        raise SystemExit(f'other parameters than those of the model: {missing} missing, {unexpected} unexpected')
    return model.eval(), vocabulary


def batches(sentences, size, vocabulary):
    """So many sentences at a time."""
    for begin in range(0, len(sentences), size):
        ids = [[*map(vocabulary.lookup, sentence), vocabulary.eos_index] for sentence in sentences[begin:begin + size]]
        lengths = torch.tensor([len(one) for one in ids])
        source = torch.full((len(ids), int(lengths.max())), vocabulary.pad_index)
        for row, one in zip(source, ids):
            row[:len(one)] = torch.tensor(one)
        yield Batch(source, lengths, None, None, None, torch.arange(len(ids)), torch.device('cpu'),
                    vocabulary.pad_index, vocabulary.eos_index, is_train=False)


def decode(model, vocabulary, sentences, asked):
    """Symbols of each output, its end among them where it was written."""
    outputs = []
    for batch in batches(sentences, asked['batch'], vocabulary):
        order = batch.sort_by_src_length()
        found, _, _ = search(model=model, batch=batch, max_output_length=asked['limit'], beam_size=asked['beams'],
                             beam_alpha=asked['penalty'])
        outputs.extend(vocabulary.arrays_to_sentences(arrays=found[order], cut_at_eos=True))
    return outputs


def main(folder):
    """Answers."""
    folder = pathlib.Path(folder)
    model, vocabulary = load(folder)
    sentences = json.loads((folder / 'sources.json').read_text(encoding='utf-8'))
    answers.write(json.dumps({'name': f'JoeyNMT {importlib.metadata.version("joeynmt")}'}) + '\n')
    answers.flush()
    for line in sys.stdin:
        asked = json.loads(line)
        begin = time.perf_counter()
        outputs = decode(model, vocabulary, sentences[asked['first']:asked['last']], asked)
        seconds = time.perf_counter() - begin
        if 'outputs' in asked:
            pathlib.Path(asked['outputs']).write_text(json.dumps(outputs), encoding='utf-8')
        answers.write(json.dumps({'tokens': sum(map(len, outputs)), 'seconds': seconds}) + '\n')
        answers.flush()


if __name__ == '__main__':
    main(sys.argv[1])
