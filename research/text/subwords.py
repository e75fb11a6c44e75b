"""Pieces of words by SentencePiece: trained here, kept as bytes, cut the best way or at random.

    line    '  a dog'                      nothing is normalised: decode(encode(line)) is the line, spaces and all
    marked  '▁▁▁a▁dog'                     each space becomes the mark U+2581, and one stands before the line
    pieces  ['▁', '▁', '▁a', '▁do', 'g']   a mark stands only at the beginning of a piece

What would not survive SentencePiece is put in other words for it and taken back in `decode`: the mark itself in a text,
and the few code points that its trainer keeps to itself. Their stand-ins, U+FDD1 to U+FDD7, are among those that
Unicode keeps free for such use; where they, or U+FDD0, are found in a text, they are UNKNOWN.
"""

import abc
import base64
import bisect
import collections
import functools
import io
import itertools
import json
import math
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import sentencepiece

from research.errors import UserError
from research.text.vocabulary import END, SPECIAL, UNKNOWN, UNKNOWN_SIGN, Vocabulary

# Lines that are trained on at most: the trainer holds them in memory. That of unigram needs some 22 bytes a character:
# half a gigabyte for lines of 120, so that a whole preparation stays below one.
LINES_READ = 200_000
MERGES_KEPT = 1 << 16  # sequences of pieces that are kept with what their merges make of them: some 60 MB
WORDS_KEPT = 1 << 14   # words that are kept with what is known of their cuts: some 50 MB

_MARK = '▁'                        # U+2581: a space
_KEPT = '\0\t\n\r\x1f▁▅'           # the trainer skips, cuts off or splits at these characters, or skips their lines
_STAND_INS = '\ufdd1\ufdd2\ufdd3\ufdd4\ufdd5\ufdd6\ufdd7'
_NEVER = '\ufdd0'                  # has no id in any vocabulary
_HIDE = str.maketrans(_STAND_INS + _KEPT, _NEVER * len(_STAND_INS) + _STAND_INS)
_SHOW = str.maketrans(_STAND_INS, _KEPT)
_SPELLINGS = [' PAD', ' BEGIN', ' END', ' UNKNOWN']  # a space stands in no marked text, so they are spelt by none


class Subwords(Vocabulary):
    """Abstract: a SentencePiece model whose ids are the vocabulary's ids.

    Characters that were not seen in training become UNKNOWN, several in a row one UNKNOWN. Threads may share one
    vocabulary. A random cut takes time with the square of a word's length (bpe) or in proportion to it (unigram); words
    come again and again, and what was found out about the last of them is kept.

    Args of the constructor:
      model: SentencePiece's, as `build` trains it.

    Raises:
      UserError: the model is damaged or is not one that `build` has trained for this unit.
    """

    def __init__(self, model: bytes):
        """Checks the model: it may come from a file."""
        self._model = model
        try:
            self._processor = sentencepiece.SentencePieceProcessor.from_proto(model)
            pieces = [self._processor.id_to_piece(number) for number in range(len(self._processor))]
        except (RuntimeError, UnicodeDecodeError):
            raise UserError('vocabulary: damaged, its model is none of SentencePiece') from None
        self._pieces = tuple(pieces[SPECIAL:])
        self._scores = tuple(self._processor.get_score(number) for number in range(SPECIAL, len(pieces)))
        self._ids = {piece: number for number, piece in enumerate(self._pieces, SPECIAL)}
        self._longest = max(map(len, self._pieces), default=0)
        if (pieces[:SPECIAL] != _SPELLINGS or _MARK not in self._ids or len(self._ids) < len(self._pieces)
                or not self._ids.keys() >= set().union(*self._pieces)
                or any(_MARK in piece[1:] for piece in self._pieces)
                or self._processor.normalize(' Ⅸ  ') != _MARK * 2 + 'Ⅸ' + _MARK * 2
                or (self._scores == tuple(range(0, -len(self._scores), -1))) != (self.unit == 'bpe')):
            raise UserError(f'vocabulary: damaged, its model is none that was trained here for {self.unit}')

    def __reduce__(self):
        """A copy, in another process too, has the model and nothing that is kept of words."""
        return type(self), (self._model,)

    def to_json(self) -> str:
        """The unit, and the model's bytes in base64."""
        return json.dumps({'unit': self.unit, 'model': base64.b64encode(self._model).decode()}, indent=0) + '\n'

    def __len__(self) -> int:
        """V, the special symbols counted."""
        return SPECIAL + len(self._pieces)

    def encode(self, line: str) -> np.ndarray:
        """The ids of a line, cut the best way: int32 [S], the last is END and no other."""
        return np.array([*self._processor.encode(line.translate(_HIDE)), END], np.int32)

    def symbol(self, number: int) -> str:
        """The piece of an id, SPECIAL or above: the mark in it is a space."""
        return self._pieces[number - SPECIAL].translate(_SHOW)

    def decode(self, ids: Iterable[int]) -> str:
        """The line of a sequence of ids: the pieces joined, marks as spaces, without the first mark."""
        marked = ''.join(UNKNOWN_SIGN if number == UNKNOWN else self._pieces[number - SPECIAL]
                         for number in self.of_text(ids))
        return marked.removeprefix(_MARK).replace(_MARK, ' ').translate(_SHOW)

    def written(self, line: str) -> str:
        """The line itself."""
        return line

    def unknown(self, line: str) -> list[str]:
        """What was not seen in training: characters, those in a row together, as they become one UNKNOWN."""
        runs = itertools.groupby(line, lambda letter: letter == ' ' or letter.translate(_HIDE) in self._ids)
        return [''.join(run) for known, run in runs if not known]

    def sample(self, line: str, seed: int | Sequence[int], alpha: float) -> np.ndarray:
        """One random cut of a line; the first of `samples`."""
        return self.samples(line, 1, seed, alpha)[0]

    def samples(self, line: str, count: int, seed: int | Sequence[int], alpha: float) -> list[np.ndarray]:
        """Random cuts of a line, independent of each other; every one is decoded to the same text.

        SentencePiece cuts at random too, but each thread has a generator of its own that cannot be seeded anew. Here
        nothing but the arguments decides, in any thread and any process.

        Args:
          line: of text.
          count: of cuts.
          seed: 0 or above; or several such numbers, as (seed of the run, epoch, line).
          alpha: unigram: the inverse temperature, 0 to 1000: 0 = all cuts are equally likely, 1 = as likely as the
            model has them, 1000 = the best one alone. bpe: the probability with which a merge is left out: 0 = the
            best cut, 1 = single characters. Usual: 0.1 to 0.5 (unigram), 0.1 (bpe).

        Returns:
          `count` arrays as `encode` returns them: int32 [S], each with its own S.

        Raises:
          UserError: alpha is out of its range.
        """
        self._check_alpha(alpha)
        uniform = functools.partial(next, _uniform(seed))
        marked = (_MARK + line.translate(_HIDE).replace(' ', _MARK)) if line else ''
        words = [self.cuts(word, alpha) for word in re.findall(f'{_MARK}[^{_MARK}]*', marked)]
        return [self._as_ids(itertools.chain.from_iterable(cut(uniform) for cut in words)) for _ in range(count)]

    @abc.abstractmethod
    def cuts(self, word: str, alpha: float) -> Callable[[Callable[[], float]], Sequence[str]]:
        """How a word is cut at random.

        Args:
          word: a mark and what follows it up to the next one; no piece goes across a mark.
          alpha: as for `samples`.

        Returns:
          A function that takes a source of independent numbers, uniform in [0, 1), and returns pieces.
        """

    @abc.abstractmethod
    def _check_alpha(self, alpha):
        """UserError for what is out of range."""

    def _as_ids(self, pieces):
        ids = [self._ids.get(piece, UNKNOWN) for piece in pieces]
        return np.array([number for before, number in itertools.pairwise([END, *ids, END])
                         if not before == number == UNKNOWN], np.int32)


class BytePair(Subwords):
    """Pieces merged from characters, the merge of a lower id first.

    Random cuts: of all merges that are possible, each is left out with probability alpha; the first of the others is
    made; then all is drawn again, until no merge is left.

    Source: Sennrich, Haddow, Birch 2016, arXiv:1508.07909, section 3.2. Differs: spaces are part of the text, as in
    Kudo, Richardson 2018, arXiv:1808.06226, section 3. Random cuts: Provilkov, Emelianenko, Voita 2020,
    arXiv:1910.13267, algorithm 1. Differs: none.
    """

    unit = 'bpe'

    def __init__(self, model: bytes):
        """Nothing is kept yet."""
        super().__init__(model)
        self._merged = functools.lru_cache(MERGES_KEPT)(self._merges)

    def cuts(self, word: str, alpha: float) -> Callable[[Callable[[], float]], Sequence[str]]:
        """How a word is cut at random."""
        def cut(uniform):
            pieces = tuple(word)
            while True:
                # The first merge that is kept decides, so those behind it need no number.
                for merged in self._merged(pieces):
                    if uniform() >= alpha:
                        pieces = merged
                        break
                else:
                    return pieces
        return cut

    def _merges(self, pieces):
        """What each possible merge makes of some pieces, the first merge first."""
        found = sorted((self._ids[left + right], place) for place, (left, right)
                       in enumerate(itertools.pairwise(pieces)) if left + right in self._ids)
        return [(*pieces[:place], self._pieces[number - SPECIAL], *pieces[place + 2:]) for number, place in found]

    def _check_alpha(self, alpha):
        if not 0 <= alpha <= 1:
            raise UserError(f'alpha is {alpha}; for bpe it is a probability, from 0 to 1')


class Unigram(Subwords):
    """Pieces that each have a probability; the best cut of a line has the greatest product of them.

    Random cuts, x = x[1], ..., x[n] one of all cuts of a word:

    P(x) = (p(x[1]) ... p(x[n]))^alpha / sum over all cuts of the same.

    Source: Kudo 2018, arXiv:1804.10959, sections 3.2 and 3.3. Differs: all cuts can be drawn, not the l best alone,
    and exactly (forward sums, drawn backwards).
    """

    unit = 'unigram'

    def __init__(self, model: bytes):
        """Nothing is kept yet."""
        super().__init__(model)
        self._kept_lattice = functools.lru_cache(WORDS_KEPT)(self._lattice)

    def cuts(self, word: str, alpha: float) -> Callable[[Callable[[], float]], Sequence[str]]:
        """How a word is cut at random."""
        lattice = self._kept_lattice(word, alpha)

        def cut(uniform):
            pieces, end = [], len(word)
            while end:
                starts, shares = lattice[end]
                start = starts[min(bisect.bisect_right(shares, uniform()), len(starts) - 1)]  # the last share may be
                pieces.append(word[start:end])                                                # a hair below 1
                end = start
            return pieces[::-1]
        return cut

    def _lattice(self, word, alpha):
        """For each end in a word: where the last piece of word[:end] can start, and the probabilities of these starts,
        summed up.
        """
        sums, found = [0.0], [((), ())]  # of word[:end]: log of the sum over its cuts
        for end in range(1, len(word) + 1):
            options = [(start, sums[start] + alpha * self._scores[self._ids[word[start:end]] - SPECIAL])
                       for start in range(max(0, end - self._longest), end) if word[start:end] in self._ids]
            options = options or [(end - 1, sums[end - 1])]  # an unknown character stands alone in every cut
            greatest = max(value for _, value in options)
            sums.append(greatest + math.log(sum(math.exp(value - greatest) for _, value in options)))
            shares = itertools.accumulate(math.exp(value - sums[end]) for _, value in options)
            found.append((tuple(start for start, _ in options), tuple(shares)))
        return found

    def _check_alpha(self, alpha):
        if not 0 <= alpha <= 1000:
            raise UserError(f'alpha is {alpha}; for unigram it is an inverse temperature, from 0 to 1000')


def build(lines: Iterable[str], unit: str, size: int | None, lines_read: int = LINES_READ) -> Subwords:
    """Trains a vocabulary of subwords; the same lines give the same bytes.

    Args:
      lines: of the training text; one vocabulary for both sides of a corpus is trained on the lines of both.
      unit: 'bpe' or 'unigram'.
      size: ids, the special symbols counted: exactly so many.
      lines_read: the most lines that are trained on; of more, a random choice, the same every time, each line as
        likely as any other. What stands in the others alone may become UNKNOWN.

    Returns:
      The vocabulary. Every character of the lines that were trained on has an id.

    Raises:
      UserError: there is no size, or it has no room for all characters, or the text does not give so many pieces;
        there is nothing but spaces in the lines.
    """
    if size is None:
        raise UserError(f'vocabulary: {unit} needs a size, the number of ids that there shall be; it is None')
    marked = [line.translate(_HIDE).replace(_NEVER, ' ') for line in _choose(lines, lines_read)]
    counts = collections.Counter()
    for line in marked:
        counts.update(line)
    if not counts.keys() - {' '}:
        raise UserError('vocabulary: there is no symbol; the text must have at least one')
    smallest = SPECIAL + len(counts.keys() | {' '})  # one space stands before every line
    if size < smallest:
        raise UserError(f'a vocabulary of size {size} has no room for all characters of its text; for {unit} it must '
                        f'be at least {smallest}')
    # The trainer sums shares of the text in 32 bits and stops at 1: rare characters would be lost in a long text.
    rare = sorted(letter for letter, count in counts.items() if letter != ' ' and count * 10 ** 6 < counts.total())
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(marked), model_writer=model, model_type=unit, vocab_size=size,
            pad_id=0, bos_id=1, eos_id=2, unk_id=3, **dict(zip(
                ('pad_piece', 'bos_piece', 'eos_piece', 'unk_piece'), _SPELLINGS)),
            normalization_rule_name='identity', remove_extra_whitespaces=False, character_coverage=1.0,
            required_chars=''.join(rare), max_sentence_length=2 ** 30, num_threads=1, minloglevel=2)
    except RuntimeError as error:
        largest = re.search(r'size too high .* <= (\d+)', str(error))
        if not largest:
            raise
        raise UserError(f'a vocabulary of size {size} is too large for its text; for {unit} it must be at most '
                        f'{largest[1]}') from None
    return _CLASSES[unit](model.getvalue())


def from_text(unit: str, model: object) -> Subwords:
    """The vocabulary of a model in base64, as `to_json` writes it; UserError when it is damaged."""
    return _CLASSES[unit](model_of(model))


def model_of(text: object) -> bytes:
    """The bytes of a model that is stored in base64; UserError when they are damaged."""
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError):
        raise UserError('vocabulary: damaged, its model must be a text in base64') from None


def _uniform(seed) -> Iterator[float]:
    """Independent numbers, uniform in [0, 1), that the seed decides."""
    bits = np.random.PCG64(seed)
    while True:
        yield from ((bits.random_raw(100) >> np.uint64(11)) * 2.0 ** -53).tolist()


def _choose(lines, count):
    """At most `count` of the lines, in their order, each as likely as any other."""
    drawn, kept = random.Random(0), []
    for number, line in enumerate(lines):
        if number < count:
            kept.append((number, line))
        elif (place := int(drawn.random() * (number + 1))) < count:
            kept[place] = number, line
    return [line for _, line in sorted(kept)]


_CLASSES = {'bpe': BytePair, 'unigram': Unigram}
