"""What a run reports can be read again: after a kill, after a resume, and by TensorBoard."""

import io
import json
import math
import os
import resource
import struct
import types

import numpy as np
import pytest

from research.errors import UserError
from research.training import report
from research.training.report import Report, read_jsonl


@pytest.fixture
def quiet(tmp_path):
    with Report(tmp_path, steps=100, console=False) as opened:
        yield opened


def lines(workdir):
    return [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


def events(workdir):
    """(step, tag, value) and session marks, from TFRecords: length, its checksum, data, its checksum."""
    from tensorboardX.proto.event_pb2 import Event
    for path in sorted((workdir / 'tensorboard').iterdir(), key=lambda path: int(path.suffix[1:])):
        data = path.read_bytes()
        while data:
            length, = struct.unpack('<Q', data[:8])
            event = Event.FromString(data[12:12 + length])
            data = data[16 + length:]
            if event.HasField('session_log'):
                yield event.step, 'session', event.session_log.status
            for value in event.summary.value:
                yield event.step, value.tag, value.simple_value


# ------------------------------------------------------------------------------------------------------ metrics.jsonl

def test_each_report_is_one_line_and_there_at_once(quiet, tmp_path):
    quiet.training(50, {'loss': 2.5, 'tokens_per_second': 1234})
    assert lines(tmp_path) == [{'step': 50, 'kind': 'train', 'loss': 2.5, 'tokens_per_second': 1234.0}]
    quiet.evaluation(50, {'accuracy': 1 / 3})
    quiet.evaluation(100, {'accuracy': np.float32(0.5)}, kind='test')
    assert lines(tmp_path)[1:] == [{'step': 50, 'kind': 'dev', 'accuracy': 1 / 3},
                                   {'step': 100, 'kind': 'test', 'accuracy': 0.5}]
    assert read_jsonl(tmp_path / 'metrics.jsonl') == (lines(tmp_path), False)


def test_numbers_that_json_does_not_have_are_null_and_named(quiet, tmp_path):
    quiet.training(1, {'loss': math.nan, 'gradient_norm': math.inf, 'least': -math.inf, 'tokens': 3.0})

    def refuse(constant):
        pytest.fail(f'{constant} is not JSON')
    line = json.loads((tmp_path / 'metrics.jsonl').read_text(), parse_constant=refuse)
    assert line == {'step': 1, 'kind': 'train', 'loss': None, 'gradient_norm': None, 'least': None, 'tokens': 3.0,
                    'not_finite': {'loss': 'nan', 'gradient_norm': 'inf', 'least': '-inf'}}


@pytest.mark.parametrize('name', ['step', 'kind', 'not_finite'])
def test_a_figure_cannot_take_the_name_of_a_field(quiet, tmp_path, name):
    with pytest.raises(ValueError, match=name):
        quiet.training(1, {'loss': 1.0, name: 2.0})
    assert lines(tmp_path) == []


def test_an_evaluation_cannot_call_itself_training(quiet):
    with pytest.raises(ValueError, match='train'):
        quiet.evaluation(1, {'loss': 1.0}, kind='train')


def test_a_file_cut_anywhere_gives_its_whole_lines(tmp_path):
    with Report(tmp_path / 'whole', steps=9, console=False) as opened:
        for step in (1, 2, 3):
            opened.training(step, {'loss': step / 3})
    whole = (tmp_path / 'whole' / 'metrics.jsonl').read_bytes()
    path = tmp_path / 'metrics.jsonl'
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        found, torn = read_jsonl(path)
        complete = sum(end <= cut for end in (whole.index(b'}', whole.index(b'"step": %d' % step)) + 1
                                              for step in (1, 2, 3)))
        assert [line['step'] for line in found] == list(range(1, complete + 1)), cut
        assert torn == (whole[:cut].rstrip(b'\n')[-1:] not in (b'', b'}')), cut


def test_a_torn_line_is_put_aside_before_more_is_written(tmp_path, capsys):
    path = tmp_path / 'metrics.jsonl'
    for number, torn in enumerate((b'{"step": 2, "ki', b'\0\0\0', b'{"step": 2, "kind": "tr\xc3'), start=1):
        path.write_bytes(b'{"step": 1, "kind": "train"}\n' + torn)
        with Report(tmp_path, steps=9) as opened:
            opened.training(3, {})
        assert [line['step'] for line in lines(tmp_path)] == [1, 3]
        assert (tmp_path / f'metrics.jsonl.dropped-{number}').read_bytes() == torn
        assert f'now in metrics.jsonl.dropped-{number}: 1' in capsys.readouterr().err


def test_a_whole_line_without_its_line_break_is_kept(tmp_path):
    (tmp_path / 'metrics.jsonl').write_text('{"step": 1, "kind": "train"}')
    with Report(tmp_path, steps=9, console=False) as opened:
        opened.training(2, {})
    assert [line['step'] for line in lines(tmp_path)] == [1, 2]
    assert not (tmp_path / 'metrics.jsonl.dropped-1').exists()


@pytest.mark.parametrize('bad', ['{"step": 2, "ki', '', '5', '[]', '{"step": 2}', '{"step": "2", "kind": "dev"}',
                                 '{"step": true, "kind": "dev"}', '{"step": 2, "kind": "dev", "loss": NaN}'])
def test_any_other_damage_is_named_with_file_and_line(tmp_path, bad):
    path = tmp_path / 'metrics.jsonl'
    path.write_text(f'{{"step": 1, "kind": "train"}}\n{bad}\n{{"step": 3, "kind": "train"}}\n')
    before = path.read_bytes()
    for attempt in (lambda: read_jsonl(path), lambda: Report(tmp_path, steps=9, console=False)):
        with pytest.raises(UserError, match=r'metrics\.jsonl:2: ') as e:
            attempt()
        assert '\n' not in str(e.value)
    assert path.read_bytes() == before


def test_an_absent_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r'none\.jsonl: No such file'):
        read_jsonl(tmp_path / 'none.jsonl')


def test_a_full_disk_is_said_and_the_lines_before_stay(quiet, tmp_path):
    """A limit on the size of files stands in for the full disk."""
    quiet.training(1, {'loss': 1.0})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / 'metrics.jsonl').stat().st_size + 9, before[1]))
        with pytest.raises(UserError, match='step 2 could not be written: No space left on device'):
            quiet.training(2, {'loss': 1.0})
        with pytest.raises(UserError, match='step 3 could not be written: File too large'):
            quiet.training(3, {'loss': 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    found, torn = read_jsonl(tmp_path / 'metrics.jsonl')
    assert [line['step'] for line in found] == [1]
    assert torn


# ------------------------------------------------------------------------------------------------------------- resume

def test_a_resumed_run_reports_every_step_once_and_loses_nothing(tmp_path):
    for stop, resumed in ((6, 0), (8, 4), (9, 4)):
        with Report(tmp_path, steps=9, console=False) as opened:
            opened.resume(resumed)
            for step in range(resumed + 1, stop + 1):
                opened.training(step, {'loss': float(stop)})
                if step % 4 == 0:
                    opened.evaluation(step, {'accuracy': 0.5})
    found, torn = read_jsonl(tmp_path / 'metrics.jsonl')
    assert not torn
    assert [(line['step'], line['kind']) for line in found] == [
        (1, 'train'), (2, 'train'), (3, 'train'), (4, 'train'), (4, 'dev'), (5, 'train'), (6, 'train'), (7, 'train'),
        (8, 'train'), (8, 'dev'), (9, 'train')]
    assert [line['loss'] for line in found if line['kind'] == 'train'] == [6.0] * 4 + [9.0] * 5
    dropped = [read_jsonl(tmp_path / f'metrics.jsonl.dropped-{number}')[0] for number in (1, 2)]
    assert [[(line['step'], line['kind']) for line in part] for part in dropped] == [
        [(5, 'train'), (6, 'train')], [(5, 'train'), (6, 'train'), (7, 'train'), (8, 'train'), (8, 'dev')]]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'metrics.jsonl', 'metrics.jsonl.dropped-1', 'metrics.jsonl.dropped-2', 'tensorboard']


def test_a_resume_that_drops_nothing_leaves_the_file_alone(tmp_path, capsys):
    with Report(tmp_path, steps=9) as opened:
        opened.training(1, {'loss': 1.0})
    capsys.readouterr()
    with (tmp_path / 'metrics.jsonl').open() as held:  # open, so that its inode cannot be given to another file
        with Report(tmp_path, steps=9) as opened:
            opened.resume(1)
        assert (tmp_path / 'metrics.jsonl').stat().st_ino == os.fstat(held.fileno()).st_ino
    assert capsys.readouterr().err == ''


# -------------------------------------------------------------------------------------------------------- TensorBoard

def test_tensorboard_files_hold_every_figure_and_hide_what_is_resumed(tmp_path):
    """Two reports within one second: the second must not write over the first."""
    for resumed in (0, 1):
        with Report(tmp_path, steps=9, console=False) as opened:
            opened.resume(resumed)
            for step in (resumed + 1, resumed + 2):
                opened.training(step, {'loss': step / 4, 'tokens': 8.0})
            opened.evaluation(resumed + 2, {'accuracy': 0.75})
    start = 1  # SessionLog.START: TensorBoard forgets what it has of this step and later ones
    assert list(events(tmp_path)) == [
        (1, 'session', start), (1, 'train/loss', 0.25), (1, 'train/tokens', 8.0), (2, 'train/loss', 0.5),
        (2, 'train/tokens', 8.0), (2, 'dev/accuracy', 0.75),
        (2, 'session', start), (2, 'train/loss', 0.5), (2, 'train/tokens', 8.0), (3, 'train/loss', 0.75),
        (3, 'train/tokens', 8.0), (3, 'dev/accuracy', 0.75)]


def test_a_report_that_is_resumed_after_it_began_hides_what_it_said(quiet, tmp_path):
    quiet.training(1, {'loss': 0.25})
    quiet.resume(0)
    quiet.training(1, {'loss': 0.5})
    quiet.close()
    assert list(events(tmp_path)) == [(1, 'train/loss', 0.25), (1, 'session', 1), (1, 'train/loss', 0.5)]


def test_a_run_that_reports_nothing_makes_no_tensorboard_file(quiet, tmp_path):
    quiet.resume(0)
    quiet.close()
    quiet.close()
    assert [path.name for path in tmp_path.iterdir()] == ['metrics.jsonl']


# ------------------------------------------------------------------------------------------------------------ console

def test_without_a_terminal_each_report_is_one_plain_line(tmp_path, capsys, monkeypatch):
    seconds = iter([100.0, 105.0, 345.0])
    monkeypatch.setattr(report, 'time', types.SimpleNamespace(monotonic=lambda: next(seconds)))
    with Report(tmp_path, steps=1000) as opened:
        opened.message('two [bold]words[/bold] :smile:\nand a line')
        opened.training(10, {'loss': 2.34567, 'tokens_per_second': 12345.6})
        opened.training(20, {'loss': 2.0, 'tokens_per_second': 12345.6})     # 10 steps in 5 s: 980 in 490 s
        opened.evaluation(20, {'loss': 1.5, 'accuracy': 1 / 3})
        opened.training(500, {'flops_per_second': 3.21e10, 'mfu': 0.125, 'padding': 0.1, 'waiting': 0.004})
    out, err = capsys.readouterr()
    assert out == ''
    assert err.splitlines() == [
        'two [bold]words[/bold] :smile:', 'and a line',
        'step 10/1000  loss 2.3457  12,346 tokens/s',
        'step 20/1000  loss 2.0000  12,346 tokens/s  8 min left',
        'step 20/1000  dev  loss 1.5  accuracy 0.3333',
        'step 500/1000  32.1 GFLOP/s  12.5 % MFU  0.4 % waiting for data  4 min left']  # 490 steps in 245 s


def test_a_silent_report_writes_files_only(quiet, tmp_path, capsys):
    quiet.message('something')
    quiet.training(1, {'loss': 1.0})
    quiet.evaluation(1, {'loss': 1.0})
    assert capsys.readouterr() == ('', '')
    assert len(lines(tmp_path)) == 2


def test_a_silent_report_speaks_once_it_is_shown(quiet, capsys):
    quiet.message('before')
    for _ in range(2):
        quiet.show()
    quiet.training(50, {'loss': 2.5})
    assert capsys.readouterr().err.splitlines() == ['step 50/100  loss 2.5000']


class Terminal(io.StringIO):
    """What is written to a terminal of 120 columns."""

    def isatty(self):
        return True


def test_on_a_terminal_there_is_a_bar_and_messages_stand_above_it(tmp_path, monkeypatch):
    for name, value in {'TERM': 'xterm', 'COLUMNS': '120', 'LINES': '20'}.items():
        monkeypatch.setenv(name, value)
    for name in ('TTY_INTERACTIVE', 'TTY_COMPATIBLE', 'FORCE_COLOR', 'JUPYTER_COLUMNS'):
        monkeypatch.delenv(name, raising=False)
    terminal = Terminal()
    monkeypatch.setattr('sys.stderr', terminal)
    text = 'a long message [bold]as it is[/bold] :smile: ' + 'word ' * 40
    with Report(tmp_path, steps=1000) as opened:
        opened.resume(10)
        opened.training(20, {'loss': 2.34567, 'tokens_per_second': 12345.6})
        opened.message(text)
        opened.evaluation(20, {'accuracy': 1 / 3})
    written = terminal.getvalue()
    assert 'step 20/1000' in written
    assert 'loss 2.3457  12,346 tokens/s' in written
    assert text + '\n' in written
    assert 'step 20/1000  dev  accuracy 0.3333\n' in written
    assert written.rindex('loss 2.3457') > written.rindex('accuracy 0.3333')  # the bar is drawn again below
    assert len(lines(tmp_path)) == 2


@pytest.mark.parametrize(('seconds', 'text'), [(0, '0 s'), (89, '89 s'), (100, '2 min'), (5399, '90 min'),
                                               (5400, '1.5 h'), (360_000, '100.0 h')])
def test_a_duration_is_in_the_unit_a_reader_would_choose(seconds, text):
    assert report.duration(seconds) == text
