"""A corpus that is ready to be trained on: checked, its vocabularies made, its training pairs as ids in files.

    <folder>/prepared.json              of what it was made: the values that decide it, files with sizes, counts, hashes
    <folder>/source_vocabulary.json     and target_vocabulary.json
    <folder>/findings.jsonl             what was found in the training lines: {"kind": .., "place": "file:line"}
    <folder>/train/                     the pairs: research/text/store.py
    <folder>/lock                       held by who writes here
    <folder>/pairs                      while it is made: the text of the pairs that are kept, a line for each side

prepared.json is written last: a folder without it is not whole, and the next preparation begins anew.
"""

import collections
import contextlib
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from research.errors import UserError
from research.locked import LOCK, locked
from research.sealed import sealed, unsealed
from research.text import reversed as reversing
from research.text.corpus import Corpus, Findings, Pair
from research.text.store import Ids, PreparedPairs, StoreWriter
from research.text.vocabulary import Vocabulary

FORMAT = 1
MANIFEST, FINDINGS, SPLIT, TEXTS = 'prepared.json', 'findings.jsonl', 'train', 'pairs'
SAMPLED = ('bpe', 'unigram')  # the units whose lines can be cut at random
EVERY = 10_000                # pairs after which progress hears of them

Values = dict[str, Any]                              # what decides the content: of the config
Progress = Callable[[str, int, int | None], None]    # what is being done, pairs so far, pairs in all (None = unknown)


class Prepared(NamedTuple):
    """What `prepare` has left in a folder."""

    source: Vocabulary
    target: Vocabulary
    pairs: PreparedPairs
    found: dict[str, int]         # kind of finding -> how many training lines
    places: dict[str, list[str]]  # and the first of them, as file:line
    histogram: dict[str, list]    # 'source' and 'target' -> [[words, lines], ...], ascending
    train_digest: str

    @classmethod
    def open(cls, folder: str | os.PathLike[str], values: Values) -> 'Prepared':
        """Opens a folder; UserError when it is not there, not whole, damaged, of other values, or of files that have
        changed their sizes.
        """
        folder = pathlib.Path(folder)
        content = _read_manifest(folder)
        there = content['values']
        differing = sorted(key for key in there.keys() | values.keys() if there.get(key) != values.get(key))
        if differing:
            key = differing[0]
            raise UserError(f'{folder} was prepared with {key} = {there.get(key)!r}, and it is {values.get(key)!r} '
                            'here: choose another folder (data.prepared), or prepare it again')
        for name, size in content['files'].items():
            if not os.path.isfile(name) or os.path.getsize(name) != size:
                raise UserError(f'{name} is not the file of {size:,} bytes that {folder} was prepared from: prepare it '
                                'again, or bring the file back')
        source, target = (_vocabulary(folder, side, content['vocabularies'][side]) for side in ('source', 'target'))
        pairs = PreparedPairs(folder, SPLIT)
        if pairs.digest != content['store']:
            raise UserError(f'{folder / SPLIT} is not what was written: prepare {folder} again')
        return cls(source, target, pairs, content['found'], content['places'], content['histogram'],
                   content['train_digest'])

    def digest(self, texts: Corpus) -> str:
        """That of `corpus_digest`, of the prepared training pairs and the other splits."""
        return corpus_digest([self.train_digest, split_digest(texts.dev), split_digest(texts.test)])


def prepare(folder: str | os.PathLike[str], values: Values, pairs: Callable[[Findings | None], Iterable[Pair]],
            vocabularies: Callable[[Callable[[], Iterable[Pair]]], tuple[Vocabulary, Vocabulary]], files: Sequence[str],
            segmentations: int, sampling: float, seed: int, progress: Progress) -> Prepared:
    """Checks the training pairs and keeps their text, makes the vocabularies from it, and writes the pairs as ids.

    Memory does not grow with the pairs, but for 16 to 48 bytes each to find duplicates (`corpus.Digests`) and the
    different symbols. The disk holds the text of the pairs and their ids twice for a while.

    Args:
      folder: made if it is absent; what it holds must be an earlier preparation, whole or not, which is replaced.
      values: what decides the content.
      pairs: gives the training pairs; what is found goes to what it is given.
      vocabularies: makes those of both sides from the pairs, which it can get as often as it wants.
      files: that the pairs are read from; empty where they are no files.
      segmentations: random cuts of each line; 0 = the best cut alone.
      sampling: alpha of `Subwords.samples`.
      seed: of the cuts; those of a pair depend on it, the side, and how many pairs were kept before.
      progress: hears every so often, and at its end, what is being done.

    Raises:
      UserError: as the pairs and the vocabularies; random cuts are asked for and a vocabulary has none; the folder
        holds something else; another process prepares it; the disk refuses.
    """
    folder = pathlib.Path(folder)
    for _ in pairs(None):
        break  # what cannot be read at all is refused before anything is replaced
    with locked(folder, 'a prepared corpus', 'folder (data.prepared)'), _named(folder):
        sizes = {name: os.path.getsize(name) for name in files}
        _empty(folder)
        content = {'format_version': FORMAT, 'values': values, 'files': sizes, **_check(folder, pairs, progress)}
        count = sum(lines for _, lines in content['histogram']['source'])
        source, target = vocabularies(lambda: _counted(_kept(folder), 'read for the vocabularies', count, progress))
        for vocabulary in (source, target):
            if segmentations and vocabulary.unit not in SAMPLED:
                raise UserError(f'data.segmentations is {segmentations}, and a vocabulary has the unit '
                                f'{vocabulary.unit!r}: lines can be cut at random by {" and ".join(SAMPLED)} alone')
        with StoreWriter(folder, SPLIT, max(len(source), len(target)), max(1, segmentations)) as writer:
            for number, pair in enumerate(_counted(_kept(folder), 'write', count, progress)):
                writer.add(*_versions(number, pair, source, target, segmentations, sampling, seed))
            progress('sort', 0, count)
        for side, vocabulary in (('source', source), ('target', target)):
            _vocabulary_path(folder, side).write_text(vocabulary.to_json(), encoding='utf-8')
        content |= {'store': PreparedPairs(folder, SPLIT).digest,
                    'vocabularies': {'source': source.hash, 'target': target.hash}}
        (folder / TEXTS).unlink()
        temporary = folder / f'{MANIFEST}.new'
        temporary.write_bytes(sealed(content))
        os.replace(temporary, folder / MANIFEST)
    return Prepared.open(folder, values)


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


def _check(folder, pairs, progress):
    """Writes down the text of the pairs that are kept, and all findings; returns what is to be said of both."""
    histogram = {side: collections.Counter() for side in ('source', 'target')}
    digest = hashlib.sha256()
    with open(folder / FINDINGS, 'w', encoding='utf-8') as found, \
            open(folder / TEXTS, 'w', encoding='utf-8', newline='\n') as texts:
        def note(kind, place):
            found.write(json.dumps({'kind': kind, 'place': place}, ensure_ascii=False) + '\n')
        findings = Findings(duplicates=True, sink=note)
        for pair in _counted(pairs(findings), 'check', None, progress):
            histogram['source'][len(pair.source.split())] += 1
            histogram['target'][len(pair.target.split())] += 1
            _digest_pair(digest, pair)
            texts.write(f'{pair.source}\n{pair.target}\n')  # no side holds a line feed
    return {'found': dict(findings.counts), 'places': dict(findings.places),
            'histogram': {side: sorted(counts.items()) for side, counts in histogram.items()},
            'train_digest': digest.hexdigest()}


def _kept(folder: pathlib.Path) -> Iterator[Pair]:
    """The pairs that `_check` has written down."""
    with open(folder / TEXTS, encoding='utf-8', newline='\n') as lines:
        for source, target in zip(lines, lines, strict=True):
            yield Pair(source.removesuffix('\n'), target.removesuffix('\n'))


def _versions(number, pair, source, target, segmentations, sampling, seed) -> list[Ids]:
    if not segmentations:
        return [(source.encode(pair.source), target.encode(pair.target))]
    return list(zip(source.samples(pair.source, segmentations, (seed, 0, number), sampling),
                    target.samples(pair.target, segmentations, (seed, 1, number), sampling), strict=True))


def _counted(pairs, what, count, progress):
    number = 0
    progress(what, number, count)
    for number, pair in enumerate(pairs, 1):
        yield pair
        if number % EVERY == 0:
            progress(what, number, count)
    progress(what, number, number)


@contextlib.contextmanager
def _named(folder):
    try:
        yield
    except OSError as error:
        raise UserError(f'{error.filename or folder}: {error.strerror}; a prepared corpus cannot be written to '
                        f'{folder}') from None


def _empty(folder: pathlib.Path) -> None:
    """Makes room for a preparation; what is not one stays, and is refused."""
    ours = {MANIFEST, f'{MANIFEST}.new', FINDINGS, TEXTS, SPLIT, f'{SPLIT}.writing', 'source_vocabulary.json',
            'target_vocabulary.json'}
    names = {path.name for path in folder.iterdir()} - {LOCK}
    if names - ours or (names and not names & {MANIFEST, FINDINGS}):
        raise UserError(f'{folder} holds something else than a prepared corpus '
                        f'({sorted(names - ours or names)[0]}): choose another folder (data.prepared)')
    # First what makes it whole, last what tells that it is ours: it may be killed in between.
    for name in sorted(names, key=lambda name: (name != MANIFEST, name == FINDINGS)):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _read_manifest(folder):
    path = folder / MANIFEST
    if not path.is_file():
        unfinished = ', its preparation was not finished' if (folder / FINDINGS).exists() else ''
        raise UserError(f'{folder} holds no prepared corpus (no {MANIFEST}{unfinished}): python -m research.prepare '
                        '--config=... with the same config makes it')
    try:
        content = unsealed(path.read_bytes())
    except OSError as error:
        raise UserError(f'{path} cannot be read ({error.strerror})') from None
    if content is None:
        raise UserError(f'{path} is damaged, it is not what was written: prepare {folder} again')
    if content['format_version'] != FORMAT:
        raise UserError(f'{path}: format_version is {content["format_version"]}, and this program reads {FORMAT}: '
                        f'prepare {folder} again')
    return content


def _vocabulary_path(folder, side):
    return folder / f'{side}_vocabulary.json'


def _vocabulary(folder, side, expected) -> Vocabulary:
    path = _vocabulary_path(folder, side)
    try:
        found = reversing.from_json(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise UserError(f'{path} cannot be read ({error.strerror}): prepare {folder} again') from None
    except (UnicodeDecodeError, UserError) as error:
        raise UserError(f'{path}: {error}') from None
    if found.hash != expected:
        raise UserError(f'{path} is not what was written: prepare {folder} again')
    return found
