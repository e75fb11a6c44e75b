"""A corpus that is ready to be trained on: checked, its vocabularies made, its training pairs as ids in files.

    <folder>/prepared.json              of what it was made: the values that decide it, files with sizes, counts
    <folder>/source_vocabulary.json     and target_vocabulary.json
    <folder>/findings.jsonl             what was found in the training lines: {"kind": .., "place": "file:line"}
    <folder>/train/                     the pairs: research/text/store.py

prepared.json is written last: a folder without it is not whole, and the next preparation begins anew.
"""

import collections
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from research.errors import UserError
from research.text import reversed as reversing
from research.text.corpus import Corpus, Findings, Pair
from research.text.store import PreparedPairs, StoreWriter
from research.text.vocabulary import Vocabulary

FORMAT = 1
MANIFEST, FINDINGS, SPLIT = 'prepared.json', 'findings.jsonl', 'train'

Values = dict[str, Any]  # what decides the content: of the config


class Prepared(NamedTuple):
    """What `prepare` has left in a folder."""

    source: Vocabulary
    target: Vocabulary
    pairs: PreparedPairs
    found: dict[str, int]       # kind of finding -> how many training lines
    places: dict[str, list[str]]  # and the first of them, as file:line
    histogram: dict[str, list]  # 'source' and 'target' -> [[words, lines], ...], ascending
    train_digest: str

    @classmethod
    def open(cls, folder: str | os.PathLike[str], values: Values) -> 'Prepared':
        """Opens a folder; UserError when it is not there, not whole, of other values, or of files that have changed."""
        path = pathlib.Path(folder) / MANIFEST
        if not path.is_file():
            raise UserError(f'{folder} holds no prepared corpus (no {MANIFEST}): python -m research.prepare '
                            '--config=... with the same config makes it')
        try:
            content = json.loads(path.read_text(encoding='utf-8'))
            if content['format_version'] != FORMAT:
                raise UserError(f'{path}: format_version is {content["format_version"]}, and this program reads '
                                f'{FORMAT}')
            there, files = content['values'], content['files']
            found, places = content['found'], content['places']
            histogram, digest = content['histogram'], content['train_digest']
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f'{path} is damaged ({error}); remove {folder} and prepare it again') from None
        differing = sorted(key for key in there.keys() | values.keys() if there.get(key) != values.get(key))
        if differing:
            key = differing[0]
            raise UserError(f'{folder} was prepared with {key} = {there.get(key)!r}, and it is {values.get(key)!r} '
                            'here: choose another folder (data.prepared), or prepare it again')
        for name, size in files.items():
            if not os.path.isfile(name) or os.path.getsize(name) != size:
                raise UserError(f'{name} is not the file of {size:,} bytes that {folder} was prepared from: prepare it '
                                'again, or bring the file back')
        source, target = (_vocabulary(pathlib.Path(folder) / f'{side}_vocabulary.json') for side in
                          ('source', 'target'))
        return cls(source, target, PreparedPairs(folder, SPLIT), found, places, histogram, digest)

    def digest(self, texts: Corpus) -> str:
        """That of `corpus_digest`, of the prepared training pairs and the other splits."""
        return corpus_digest([self.train_digest, split_digest(texts.dev), split_digest(texts.test)])


def prepare(folder: str | os.PathLike[str], values: Values, pairs: Callable[[Findings | None], Iterable[Pair]],
            vocabularies: Callable[[Callable[[], Iterable[Pair]]], tuple[Vocabulary, Vocabulary]], files: Sequence[str],
            segmentations: int, sampling: float, seed: int, progress: Callable[[str, int], None]) -> Prepared:
    """Reads the training pairs three times: to check them, to make the vocabularies, and to write them as ids.

    Args:
      folder: made if it is absent; what it holds must be an earlier preparation, whole or not, which is replaced.
      values: what decides the content.
      pairs: gives the training pairs anew each time; what is found goes to what it is given.
      vocabularies: makes those of both sides.
      files: that the pairs are read from; empty where they are no files.
      segmentations: random cuts of each line; 0 = the best cut alone.
      sampling: alpha of `Subwords.samples`.
      seed: of the cuts.
      progress: gets what is being done, and how many pairs of it are done.

    Raises:
      UserError: as the pairs and the vocabularies; the folder holds something else; the disk refuses.
    """
    folder = pathlib.Path(folder)
    sizes = {name: os.path.getsize(name) for name in files}
    _empty(folder)
    histogram = {side: collections.Counter() for side in ('source', 'target')}
    digest = hashlib.sha256()
    with open(folder / FINDINGS, 'w', encoding='utf-8') as file:
        def note(kind, place):
            file.write(json.dumps({'kind': kind, 'place': place}, ensure_ascii=False) + '\n')
        findings = Findings(duplicates=True, sink=note)
        for pair in _counted(pairs(findings), 'check', progress):
            histogram['source'][pair.source.count(' ') + 1] += 1
            histogram['target'][pair.target.count(' ') + 1] += 1
            _digest_pair(digest, pair)
    source, target = vocabularies(lambda: _counted(pairs(None), 'make the vocabularies', progress))
    with StoreWriter(folder, SPLIT, max(len(source), len(target)), max(1, segmentations)) as writer:
        for number, pair in enumerate(_counted(pairs(None), 'write', progress)):
            writer.add(*_versions(number, pair, source, target, segmentations, sampling, seed))
        progress('sort', number + 1)
    for name, vocabulary in (('source', source), ('target', target)):
        (folder / f'{name}_vocabulary.json').write_text(vocabulary.to_json(), encoding='utf-8')
    content = {'format_version': FORMAT, 'values': values, 'files': sizes, 'found': dict(findings.counts),
               'places': dict(findings.places),
               'histogram': {side: sorted(counts.items()) for side, counts in histogram.items()},
               'train_digest': digest.hexdigest()}
    temporary = folder / f'{MANIFEST}.new'
    temporary.write_text(json.dumps(content, ensure_ascii=False, indent=1) + '\n', encoding='utf-8')
    os.replace(temporary, folder / MANIFEST)
    return Prepared.open(folder, values)


def _versions(number, pair, source, target, segmentations, sampling, seed):
    if not segmentations:
        return [(source.encode(pair.source), target.encode(pair.target))]
    return list(zip(source.samples(pair.source, segmentations, (seed, 0, number), sampling),
                    target.samples(pair.target, segmentations, (seed, 1, number), sampling), strict=True))


def _counted(pairs, what, progress):
    for number, pair in enumerate(pairs, 1):
        if number % 10_000 == 0:
            progress(what, number)
        yield pair


def _empty(folder: pathlib.Path) -> None:
    """Makes room for a preparation; what is not one stays, and is refused."""
    ours = {MANIFEST, f'{MANIFEST}.new', FINDINGS, SPLIT, f'{SPLIT}.writing', 'source_vocabulary.json',
            'target_vocabulary.json'}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in folder.iterdir()}
        if names - ours or (names and FINDINGS not in names):
            raise UserError(f'{folder} holds something else than a prepared corpus '
                            f'({sorted(names - ours or names)[0]}): choose another folder (data.prepared)')
        (folder / MANIFEST).unlink(missing_ok=True)  # first: from now on the folder is not whole
        for name in names - {MANIFEST}:
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    except OSError as error:
        raise UserError(f'{folder} cannot be written: {error.strerror}') from None


def _vocabulary(path: pathlib.Path) -> Vocabulary:
    try:
        return reversing.from_json(path.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError, UserError) as error:
        raise UserError(f'{path}: {error}') from None


def corpus_digest(splits: Sequence[str]) -> str:
    """Sixteen hexadecimal digits that name a corpus by the digests of its splits."""
    return hashlib.sha256('\n'.join(splits).encode()).hexdigest()[:16]


def split_digest(pairs: Iterable[Pair]) -> str:
    """The sha256 of the texts of some pairs in their order."""
    digest = hashlib.sha256()
    for pair in pairs:
        _digest_pair(digest, pair)
    return digest.hexdigest()


def _digest_pair(digest, pair):
    digest.update(f'{pair.source}\t{pair.target}\t{"|".join(pair.others)}\n'.encode())
