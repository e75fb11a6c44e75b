"""How good translations are: BLEU, chrF and TER as sacrebleu counts them, with their signatures and intervals.

An output is a line; its references are a tuple of lines, all of them right: outputs may have different numbers of them.
All of it is detokenised, written as people write: sacrebleu tokenises by itself, so that one signature means one thing.
"""

import contextlib
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.significance import PairedTest

from research.errors import UserError, at_least, nearest
from research.evaluation.lengths import by_length

TOKENIZERS = tuple(name for name in BLEU.TOKENIZERS if name != 'spm')  # spm is sacrebleu's old name of flores101
LEARNED = ('flores101', 'flores200', 'spBLEU-1K')  # SentencePiece models of a hundred languages and more
MEND = {
    'ja-mecab': "pip install 'seq2lab[ja]'", 'ko-mecab': "pip install 'seq2lab[ko]'",
    **dict.fromkeys(LEARNED, 'its model must be in ~/.sacrebleu/models (or $SACREBLEU/models), where sacrebleu '
                             'downloads it once'),
}
SEED = 12345  # of the resamples: sacrebleu's own, whatever the environment says
FEWEST_RESAMPLES = 40  # an interval of 95 % leaves one in forty out at each end

# Scripts that set no space between words -> their letters, languages in them, and the tokenizers that split them.
WITHOUT_SPACES = {
    'Han': (r'[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]',
            ('zh', 'zho', 'chi', 'cmn', 'yue', 'wuu', 'lzh'), ('zh', 'char', *LEARNED)),
    'Japanese': (r'[\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f]', ('ja', 'jpn'), ('ja-mecab', 'char', *LEARNED)),
    'Thai': (r'[\u0e00-\u0e7f]', ('th', 'tha'), ('char', *LEARNED)),
    'Lao': (r'[\u0e80-\u0eff]', ('lo', 'lao'), ('char', *LEARNED)),
    'Tibetan': (r'[\u0f00-\u0fff]', ('bo', 'bod', 'tib', 'dz', 'dzo'), ('char', *LEARNED)),
    'Myanmar': (r'[\u1000-\u109f]', ('my', 'mya', 'bur'), ('char', *LEARNED)),
    'Khmer': (r'[\u1780-\u17ff]', ('km', 'khm'), ('char', *LEARNED)),
}


class Score(NamedTuple):
    """One number of a corpus, and what is needed to compare it with another."""

    name: str           # BLEU, chrF2 or TER
    value: float        # BLEU, chrF2: 0 to 100; TER: edits for 100 words of the reference, 0 is best, no upper end
    low: float | None   # the 95 % bootstrap interval over sentences; None where no resample was asked for
    high: float | None
    signature: str      # sacrebleu's; two scores can be compared where it is the same


class Comparison(NamedTuple):
    """Two systems on the same sentences, and whether other sentences might have turned the difference round.

    It speaks of sentences, not of training seeds: that one model is better, not that the way to train it is.
    """

    a: float           # BLEU of the first
    b: float           # BLEU of the second
    difference: float  # a - b
    p: float           # two-sided
    signature: str     # sacrebleu's, with the test and its draws


def bleu(outputs: Sequence[str], references: Sequence[tuple[str, ...]], tokenizer: str) -> float:
    """BLEU of a corpus and nothing else: cheap enough to be asked for again and again during a training.

    BLEU = 100 min(1, exp(1 - r / c)) (p[1] p[2] p[3] p[4])^(1/4);  p[n] is the share of the outputs' n-grams that a
    reference has (where it has none of them, half of one, then a quarter), c the length of all outputs and r that of
    the references nearest in length, in tokens.

    Args:
      outputs: n lines; a line may be empty.
      references: n tuples of right lines, each with at least one.
      tokenizer: one of TOKENIZERS.

    Returns:
      0 to 100.

    Raises:
      ValueError: outputs and references differ in number.
      UserError: the tokenizer is unknown or not installed, there is no output, or one has no reference.

    Source: Papineni et al. 2002; Post 2018, arXiv:1804.08771. Differs: none, sacrebleu counts.
    """
    metric = _bleu(tokenizer)
    return _value(metric, _statistics(metric, outputs, references))


def scores(outputs: Sequence[str], references: Sequence[tuple[str, ...]], tokenizer: str,
           resamples: int = 1000) -> list[Score]:
    """BLEU, chrF and TER of a corpus, each with the interval that other sentences of its kind might have given.

    Each resample draws n of the n sentences with replacement; low and high leave the lowest and the highest fortieth of
    the resampled scores out. Values, draws and signature are those of `sacrebleu -m bleu chrf ter --confidence`; it
    prints the mean of the resamples and half of high - low.

    Args:
      outputs: n lines; a line may be empty.
      references: n tuples of right lines, each with at least one.
      tokenizer: one of TOKENIZERS, of BLEU; chrF and TER need none.
      resamples: at least 40, or 0 for no interval.

    Returns:
      The three scores; without TER where the references are written without spaces between words, because its edits
      are of what stands between spaces.

    Raises:
      ValueError: outputs and references differ in number.
      UserError: as `bleu`, or there are 1 to 39 resamples.

    Source: Post 2018, arXiv:1804.08771; Popović 2015 (chrF); Snover et al. 2006 (TER); Koehn 2004 (resamples).
    Differs: the interval is that of the percentiles, not moved to be even around their mean.
    """
    _check_resamples(resamples)
    metrics = {'BLEU': _bleu(tokenizer), 'chrF2': CHRF()}
    if _script(itertools.chain.from_iterable(references)) is None:
        metrics['TER'] = TER()
    found = []
    for name, metric in metrics.items():
        statistics = _statistics(metric, outputs, references)
        signature = metric.get_signature()
        if resamples:
            signature.update('bs', resamples)
            signature.update('seed', SEED)
        found.append(Score(name, _value(metric, statistics), *_interval(metric, statistics, resamples),
                           signature.format()))
    return found


def bleu_by_length(outputs: Sequence[str], references: Sequence[tuple[str, ...]], sizes: Sequence[int],
                   edges: Sequence[int], tokenizer: str, resamples: int = 1000) -> list[dict]:
    """BLEU of the sentences in each bucket of source lengths.

    bucket i holds the n with edges[i] <= sizes[n] < edges[i + 1];  edges (2, 4, 7) are the buckets 2-3 and 4-6.

    Args:
      outputs: n lines; a line may be empty.
      references: n tuples of right lines, each with at least one.
      sizes: int [n], of the sources in words.
      edges: strictly rising; one more than there are buckets.
      tokenizer: one of TOKENIZERS.
      resamples: at least 40, or 0 for no interval.

    Returns:
      One record a bucket: low and high (lengths, both inclusive), count, bleu, low95 and high95 (its interval as in
      `scores`); an empty bucket has count 0 and None for the rest.

    Raises:
      ValueError: outputs, references and sizes differ in number.
      UserError: as `scores`; the edges do not rise, or a size lies outside of them.
    """
    _check_resamples(resamples)
    sizes, metric = np.asarray(sizes), _bleu(tokenizer)
    statistics = _statistics(metric, outputs, references)
    rows = []
    for bucket in by_length(sizes, np.zeros(len(outputs)), edges):
        row = {key: bucket[key] for key in ('low', 'high', 'count')} | dict.fromkeys(('bleu', 'low95', 'high95'))
        if bucket['count']:
            chosen = statistics[(sizes >= bucket['low']) & (sizes <= bucket['high'])]
            row['bleu'] = _value(metric, chosen)
            row['low95'], row['high95'] = _interval(metric, chosen, resamples)
        rows.append(row)
    return rows


def paired_bootstrap(outputs_a: Sequence[str], outputs_b: Sequence[str], references: Sequence[tuple[str, ...]],
                     tokenizer: str, resamples: int = 1000) -> Comparison:
    """Whether two systems differ in BLEU, by drawing sentences anew, the same ones for both.

    D = |BLEU of a - BLEU of b|;  p = (1 + the resamples whose D is above their mean D by more than D) / (1 + resamples)

    Args:
      outputs_a, outputs_b: n lines each, of the same sources.
      references: n tuples of right lines, each with at least one.
      tokenizer: one of TOKENIZERS.
      resamples: how many.

    Returns:
      What `sacrebleu -i a b --paired-bs` says of them.

    Raises:
      ValueError: outputs and references differ in number.
      UserError: as `bleu`, or there is no resample.

    Source: Koehn 2004, Statistical Significance Tests for Machine Translation Evaluation; sacrebleu computes it.
    Differs: p is at least 2^(1 - k), where k sentences were translated differently. sacrebleu counts resamples above,
      not at, so it gives its smallest p to two systems that do not differ at all.
    """
    at_least(1, resamples=resamples)
    return _compare('bs', outputs_a, outputs_b, references, tokenizer, resamples)


def approximate_randomisation(outputs_a: Sequence[str], outputs_b: Sequence[str],
                              references: Sequence[tuple[str, ...]], tokenizer: str,
                              trials: int = 10_000) -> Comparison:
    """Whether two systems differ in BLEU, by exchanging their outputs of sentences drawn at random.

    D = |BLEU of a - BLEU of b|;  p = (1 + the trials whose D is above D) / (1 + trials)

    Args:
      outputs_a, outputs_b, references, tokenizer: as of `paired_bootstrap`.
      trials: how many; in each a coin is thrown for each sentence.

    Returns:
      What `sacrebleu -i a b --paired-ar` says of them.

    Raises:
      ValueError: outputs and references differ in number.
      UserError: as `bleu`, or there is no trial.

    Source: Riezler and Maxwell 2005, On Some Pitfalls in Automatic Evaluation; sacrebleu computes it.
    Differs: p is at least 2^(1 - k), as in `paired_bootstrap`.
    """
    at_least(1, trials=trials)
    return _compare('ar', outputs_a, outputs_b, references, tokenizer, trials)


def check_tokenizer(tokenizer: str, language: str, texts: Sequence[str]) -> None:
    """Refuses a tokenizer that would take whole sentences for words: Chinese with 13a is the mistake that is made.

    Args:
      tokenizer: what BLEU is to be counted with.
      language: code of the target language, such as zh, zho, zh-CN or zho_Hans; '' = not known, look at the texts.
      texts: lines of the target language, such as the references. They are written without spaces where more than half
        of their letters are Han, Hiragana or Katakana, Thai, Lao, Tibetan, Myanmar or Khmer.

    Raises:
      UserError: the tokenizer is unknown, or does not split what is written without spaces; names those that do.
    """
    _check_known(tokenizer)
    if language:
        code = re.split('[-_]', language.lower())[0]
        script = next((script for script, (_, codes, _) in WITHOUT_SPACES.items() if code in codes), None)
        reason = f'language {language}'
    else:
        script = _script(texts)
        reason = f'most letters are {script}'
    if script is not None and tokenizer not in WITHOUT_SPACES[script][2]:
        raise UserError(f'tokenizer {tokenizer!r} does not split a text written without spaces ({reason}): it must be '
                        f'one of {", ".join(WITHOUT_SPACES[script][2])}')


def remarks(outputs: Sequence[str], references: Sequence[tuple[str, ...]]) -> list[str]:
    """What a reader of the scores must know: text that looks tokenised, whose scores are not those of a translation.

    A text looks tokenised where most of its lines with a comma, or a full stop at their end, have a space before one.

    Args:
      outputs: lines.
      references: tuples of right lines.

    Returns:
      At most one line for the outputs and one for the references; empty when there is nothing to say.
    """
    said = []
    for name, lines in (('outputs', outputs), ('references', list(itertools.chain.from_iterable(references)))):
        telling = [line for line in lines if re.search(r',(?= |$)|\.$', line.rstrip())]
        tokenised = sum(re.search(r' (,(?= |$)|\.$)', line.rstrip()) is not None for line in telling)
        if 2 * tokenised > len(telling):
            said.append(f'the {name} look tokenised ({tokenised} of {len(telling)} with a comma or a full stop have a '
                        'space before it): BLEU, chrF and TER can only be compared on detokenised text')
    return said


def _check_known(tokenizer):
    if tokenizer not in TOKENIZERS:
        raise UserError(f'Unknown tokenizer {tokenizer!r}.{nearest(tokenizer, TOKENIZERS)} '
                        f'Known: {", ".join(TOKENIZERS)}.')


def _check_resamples(resamples):
    if resamples != 0 and resamples < FEWEST_RESAMPLES:
        raise UserError(f'resamples is {resamples}; it must be at least {FEWEST_RESAMPLES}, or 0 for no interval')


def _bleu(tokenizer):
    """sacrebleu's metric; with force it logs nothing about tokenised lines, which `remarks` returns instead."""
    _check_known(tokenizer)
    try:
        return BLEU(tokenize=tokenizer, force=True)
    except (ImportError, RuntimeError, AssertionError, OSError) as error:  # by packages, their dictionaries, the model
        raise UserError(f'tokenizer {tokenizer!r} cannot be used here: {MEND[tokenizer]} '
                        f'({" ".join(str(error).split())})') from None


def _script(texts):
    """The script without spaces that more than half of the letters are written in; None where there is none."""
    letters = ''.join(filter(str.isalpha, ''.join(texts)))
    counts = {script: len(re.findall(pattern, letters)) for script, (pattern, *_) in WITHOUT_SPACES.items()}
    if 2 * sum(counts.values()) <= len(letters):
        return None
    if 10 * counts['Japanese'] >= counts['Han'] > 0:  # Japanese has Han letters too, Chinese hardly any of the others
        return 'Japanese'
    return max(counts, key=counts.get)


def _compare(test, outputs_a, outputs_b, references, tokenizer, draws):
    metric = _bleu(tokenizer)
    for outputs in (outputs_a, outputs_b):
        _check(outputs, references)
    with _own_seed():
        signatures, found = PairedTest([('a', outputs_a), ('b', outputs_b)], {'BLEU': metric}, _streams(references),
                                       test, draws)()
    a, b = found['BLEU']
    differing = sum(one != other for one, other in zip(outputs_a, outputs_b))
    return Comparison(float(a.score), float(b.score), float(a.score - b.score),
                      min(1.0, max(float(b.p_value), 2.0 ** (1 - differing))), signatures['BLEU'].format())


@contextlib.contextmanager
def _own_seed() -> Iterator[None]:
    """sacrebleu draws with its own seed, SEED, and not with one that the environment names."""
    named = os.environ.pop('SACREBLEU_SEED', None)
    try:
        yield
    finally:
        if named is not None:
            os.environ['SACREBLEU_SEED'] = named


def _check(outputs, references):
    if len(outputs) != len(references):
        raise ValueError(f'{len(outputs)} outputs, but {len(references)} references.')
    if not len(outputs):
        raise UserError('There is no output to score; there must be at least one.')
    for n, lines in enumerate(references):
        if isinstance(lines, str):  # a string is a sequence of references of one letter: never what was meant
            raise ValueError(f'References are tuples of lines, but reference {n} is the string {lines!r}.')
        if not lines:
            raise UserError(f'Output {n} ({outputs[n]!r}) has no reference to compare with.')


def _streams(references):
    """The first reference of every sentence, then every second one, with None where there is none."""
    most = max(map(len, references))
    return [[lines[k] if k < len(lines) else None for lines in references] for k in range(most)]


def _statistics(metric, outputs, references):
    """What each sentence adds to the counts that a score is made of: [n, counts]."""
    _check(outputs, references)
    return np.array(metric._extract_corpus_statistics(outputs, _streams(references)), np.float64)


def _value(metric, statistics):
    return float(metric._compute_score_from_stats(statistics.sum(axis=0).tolist()).score)


def _interval(metric, statistics, resamples):
    if not resamples:
        return None, None
    rng, n = np.random.default_rng(SEED), len(statistics)
    found = sorted(_value(metric, statistics[rng.choice(n, size=n)]) for _ in range(resamples))
    return found[resamples // FEWEST_RESAMPLES], found[-1 - resamples // FEWEST_RESAMPLES]
