"""Pairs from wherever one string says: files, data sets of Hugging Face, test sets of sacreBLEU."""

import os
import re
from collections.abc import Collection, Iterator

from research.errors import UserError, nearest
from research.text import corpus
from research.text.corpus import Findings, Origin, Pair, one_line

HUGGING_FACE, SACREBLEU = 'huggingface:', 'sacrebleu:'
DATA_SET = re.compile(r'(?P<name>[^\[\]@:\s]+)(\[(?P<config>[^\[\]\s]+)\])?@(?P<revision>[^@:\s]+):(?P<split>[^:\s]+)')


def pairs(spec: str, *, columns: int = 2, source: str = '', target: str = '', skip: Collection[str] = frozenset(),
          longest: int = 20_000, findings: Findings | None = None) -> Iterator[Pair]:
    """Reads pairs one by one from where `spec` says; all else is as with corpus.pairs.

    - `huggingface:NAME@REVISION:SPLIT` or `huggingface:NAME[CONFIG]@REVISION:SPLIT`, as hugging_face reads it.
    - `sacrebleu:TESTSET`, as sacrebleu_test_set reads it.
    - anything else: files, as corpus.pairs reads them.

    Args:
      spec: where the pairs are.
      columns: as with corpus.pairs; a data set and a test set have none.
      source: the language of the sources, the key of their texts in a JSON object or in a row of a data set, and the
        first of the language pair of a test set.
      target: that of the targets.
      skip: kinds of pairs that are left out.
      longest: most characters of a side.
      findings: where to count what is wrong; the places are `SPEC row 17` in a data set, `SPEC line 17` in a test set.

    Returns:
      A generator of pairs in their order; it holds what is open until it ends or is closed.

    Raises:
      UserError: as corpus.pairs; the spec has another form, or what it names is not there or cannot be fetched.
      ValueError: something is to be left out, but not to be counted.
    """
    if spec.startswith(HUGGING_FACE):
        corpus.refuse_columns(spec, columns, 'a data set')
        origin = hugging_face(spec, source, target)
    elif spec.startswith(SACREBLEU):
        corpus.refuse_columns(spec, columns, 'a test set')
        origin = sacrebleu_test_set(spec, source, target)
    else:
        origin = corpus.origin(spec, columns, source, target)
    return corpus.checked(origin, skip=skip, longest=longest, findings=findings)


def hugging_face(spec: str, source: str, target: str) -> Origin:
    """The rows of one split of a data set of the Hugging Face hub, streamed: nothing is kept, neither here nor on disk.

    A row has both sides by their languages, itself or as its "translation". The revision is a commit (or a tag, or a
    branch; only a commit is the same for ever): a result that somebody is to repeat names it, so there is no default.

    Args:
      spec: `huggingface:NAME@REVISION:SPLIT`; `[CONFIG]` after the name where the data set has several.
      source: the key of the sources.
      target: the key of the targets.

    Returns:
      The origin; the data set is opened here, and read when its rows are.

    Raises:
      UserError: the spec has another form or names no revision, a language is missing, the library is not installed,
        or the data set cannot be opened.
    """
    asked = DATA_SET.fullmatch(spec.removeprefix(HUGGING_FACE))
    if asked is None:
        why = '' if '@' in spec else ' names no revision, without which nobody can repeat a result;'
        raise UserError(f'{spec}:{why} it must be {HUGGING_FACE}NAME@REVISION:SPLIT or '
                        f'{HUGGING_FACE}NAME[CONFIG]@REVISION:SPLIT, with a commit of the data set as its revision')
    corpus.demand_languages(spec, source, target)
    if os.path.exists(asked['name']):  # the library would read it and forget the revision
        raise UserError(f'{spec}: {asked["name"]} is a file or folder here, which has no revisions; name its '
                        'files, or run from another folder')
    try:
        import datasets
    except ImportError:
        raise UserError(f"{spec}: the package datasets is not installed: pip install 'seq2lab[huggingface]'") from None
    try:
        rows = datasets.load_dataset(asked['name'], asked['config'], split=asked['split'],
                                     revision=asked['revision'], streaming=True)
    except Exception as error:  # of the hub, of the network, of any format: the library names no common one
        raise UserError(f'{spec}: cannot be opened ({type(error).__name__}: {one_line(error)})') from None
    place = f'{spec} row '

    def sides(number, row):
        return corpus.by_languages(f'{place}{number}', row, source, target)
    return Origin(_streamed(rows, place), sides, (place, place))


def sacrebleu_test_set(spec: str, source: str, target: str) -> Origin:
    """The lines of a test set of sacreBLEU, which fetches it the first time and keeps it in its own folder.

    Args:
      spec: `sacrebleu:TESTSET`.
      source: the first language of its language pair.
      target: the second.

    Returns:
      The origin; the test set is fetched here.

    Raises:
      UserError: there is no such test set, it has not this language pair or several references of it, a language is
        missing, or it cannot be fetched.
    """
    import sacrebleu
    name, languages = spec.removeprefix(SACREBLEU), f'{source}-{target}'
    known = sacrebleu.get_available_testsets()
    if name not in known:
        raise UserError(f'{spec}: sacreBLEU has no such test set.{nearest(name, known)} sacrebleu --list names all')
    corpus.demand_languages(spec, source, target)
    if languages not in sacrebleu.get_langpairs_for_testset(name):
        raise UserError(f'{spec}: has not {languages}; it has {", ".join(sacrebleu.get_langpairs_for_testset(name))}')
    try:
        path = sacrebleu.get_source_file(name, languages)
        references = sacrebleu.get_reference_files(name, languages)
    except (Exception, SystemExit) as error:  # of the network, of any archive; SystemExit: a wrong checksum, for one
        raise UserError(f'{spec}: sacreBLEU cannot fetch it ({type(error).__name__}: {one_line(error)}); where there '
                        f'is no network, copy its folder {sacrebleu.SACREBLEU_DIR} from elsewhere') from None
    if len(references) != 1:
        raise UserError(f'{spec}: has {len(references)} references of each line of {languages}; it must have one')
    place = f'{spec} line '
    return corpus.aligned(path, references[0], (place, place))


def _streamed(rows, place):
    number = 1
    try:
        for row in rows:
            yield row
            number += 1
    except Exception as error:  # as above; what the reader of the rows raises does not come by here
        raise UserError(f'{place}{number}: cannot be read ({type(error).__name__}: {one_line(error)})') from None
    if number == 1:
        raise UserError(f'{place}1: there is none; the split must have at least one row')
