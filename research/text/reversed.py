"""A source that is read from its end to its beginning."""

import json
from collections.abc import Iterable

import numpy as np

from research.text.vocabulary import Vocabulary


class Reversed(Vocabulary):
    """The symbols of a line in reverse order, the end symbol still the last: `a big dog </s>` is `dog big a </s>`.

    The ids of its symbols are those of the vocabulary that it reverses.

    Source: Sutskever, Vinyals, Le 2014, arXiv:1409.3215, section 3.3. Differs: none.

    Args of the constructor:
      forward: the vocabulary that cuts the line.
    """

    def __init__(self, forward: Vocabulary):
        self.forward, self.unit = forward, forward.unit

    def to_json(self) -> str:
        """That of the other vocabulary, under the key `reversed`."""
        return json.dumps({'reversed': json.loads(self.forward.to_json())}, ensure_ascii=False, indent=0) + '\n'

    def __len__(self) -> int:
        """V, the special symbols counted."""
        return len(self.forward)

    def encode(self, line: str) -> np.ndarray:
        """The ids of a line, last symbol first: int32 [S], the last is END and no other."""
        ids = self.forward.encode(line)
        return np.concatenate([ids[-2::-1], ids[-1:]])

    def samples(self, line: str, count: int, seed: tuple[int, ...], alpha: float) -> list[np.ndarray]:
        """Random cuts of a line, each reversed; of a vocabulary that has any."""
        return [np.concatenate([ids[-2::-1], ids[-1:]]) for ids in self.forward.samples(line, count, seed, alpha)]

    def symbol(self, number: int) -> str:
        """How the symbol of an id, SPECIAL or above, is written for people."""
        return self.forward.symbol(number)

    def decode(self, ids: Iterable[int]) -> str:
        """The line of a sequence of ids up to its END, the right way round."""
        return self.forward.decode([*self.of_text(ids)][::-1])

    def written(self, line: str) -> str:
        """A line as `decode` would write it if nothing in it were unknown."""
        return self.forward.written(line)

    def unknown(self, line: str) -> list[str]:
        """What has no id in a line: as many parts of it as `encode` gives UNKNOWN."""
        return self.forward.unknown(line)


def from_json(text: str) -> Vocabulary:
    """Reads what to_json of any vocabulary wrote, a reversed one too; raises UserError when it is damaged."""
    try:
        content = json.loads(text)
    except ValueError:
        return Vocabulary.from_json(text)  # which says what is wrong
    if isinstance(content, dict) and content.keys() == {'reversed'}:
        return Reversed(Vocabulary.from_json(json.dumps(content['reversed'])))
    return Vocabulary.from_json(text)
