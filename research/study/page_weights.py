"""The viewer of attention weights: one map at a time, of the arm, seed, example and head that the reader chooses.

The weights of a page stand in it once, in thousandths, packed; the script (research/study/page_script.py) unpacks those
of one run when they are asked for, and makes the cells of one map.
"""

import base64
import json
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from research.study.card import Standing, shown
from research.study.records import StudyInfo

STEPS = 1000  # of weights between 0 and 1


def viewer(number: int, study: StudyInfo, arms: Sequence[tuple[int, Standing]]) -> str:
    """The viewer of one task, '' where no run kept an example.

    Args:
      number: of the task in the study.
      study: what the page is of.
      arms: (number of the arm in the study, standing), in the order of the study.
    """
    found = [{'name': one.arm.name, 'look': f'arm{n}', 'runs': [packed(study, run) for run in one.finished
                                                                if run['examples']]} for n, one in arms]
    found = [arm for arm in found if arm['runs']]
    if not found:
        return ''
    first = next((n for n, arm in enumerate(found) if not _control(arms, arm) and any(run['reads'] for run in
                                                                                      arm['runs'])), 0)
    selects = ''.join(f'<label>{title}<select data-choose="{name}"></select></label>' for name, title in (
        ('arm', 'Arm'), ('run', 'Seed'), ('example', 'Example'), ('head', 'Head')))
    return f'''<p>Rows are what was written, columns the source, <b>¶</b> the end symbol. A cell is the weight of one
position: <span class="scales">0 <span class="ramp"></span> 1</span>, rounded to thousandths. Point at it, or focus the
map and use the arrow keys, to read it. The longest, shortest and median examples are the same for all runs; the worst
are each run’s own.</p>
<div class="viewer" data-weights="packed{number}" data-first="{first}"><div class="selects">{selects}</div>
<figure class="map"><figcaption></figcaption><div class="scroll"><table class="heat" tabindex="0"
aria-label="Attention weights; the arrow keys read them"></table></div><output aria-live="polite"></output></figure>
<noscript><p class="missing">The viewer needs a browser that runs this page’s script.</p></noscript></div>
<script type="application/json" id="packed{number}">{script_json(found)}</script>'''


def _control(arms, arm):
    return next(one.arm.control for n, one in arms if f'arm{n}' == arm['look'])


def packed(study: StudyInfo, run: dict) -> dict[str, Any]:
    """What the viewer needs of a run; `data` are its examples: JSON, deflated (RFC 1950), in base64."""
    examples = sorted(run['examples'], key=lambda example: len(example['source']))
    rows = [{'rule': one['rule'], 'right': one['right'], 'source': one['source'], 'answer': one['answer'],
             'output': one['output'], 'weights': thousandths(one['weights'])} for one in examples]
    text = json.dumps(rows, separators=(',', ':')).encode()
    heads = run['diagnostics'].get('heads') or []
    return {'seed': run['seed'], 'score': shown(study.score, run['scores'][study.score.name]),
            'reads': any(one['weights'] for one in examples), 'heads': [head_name(n, head) for n, head in
                                                                        enumerate(heads)],
            'data': base64.b64encode(zlib.compress(text, 9)).decode()}


def thousandths(weights: Sequence[Sequence[Sequence[float]]] | None) -> list[list[list[int]]] | None:
    """Weights [N, T, S] as whole numbers: 0.1234 -> 123."""
    return None if weights is None else np.rint(STEPS * np.asarray(weights, np.float64)).astype(int).tolist()


def head_name(n: int, head: dict | None = None) -> str:
    """'layer 1, head 2' where diagnostics say which it is, else 'head 2': people count from 1."""
    if head and head.get('layer') is not None and head.get('head') is not None:
        return f'layer {head["layer"] + 1}, head {head["head"] + 1}'
    return f'head {n + 1}'


def script_json(value: Any) -> str:
    """JSON that ends no script element, whatever its words are."""
    return json.dumps(value, separators=(',', ':')).replace('<', '\\u003c')

