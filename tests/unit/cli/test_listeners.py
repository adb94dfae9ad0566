"""Progress: lines, JSON lines, bars and silence, whatever order events come in."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from nb2image.cli.listeners import Bars, JsonLines, Patient, Plain, Quiet, listening
from nb2image.progress import Advanced, Event, Finished, Listener, Note, Started, Warned

BUILD: list[Event] = [
    Started("read", "a.ipynb"),
    Finished("read", "a.ipynb", 0.2),
    Started("match", "a.ipynb"),
    Started("index", "Pipfile.lock", 2),
    Advanced("index", "Pipfile.lock"),
    Advanced("index", "Pipfile.lock"),
    Finished("index", "Pipfile.lock", 0.5),
    Finished("match", "a.ipynb", 0.6),
    Note("bookworm: the newest"),
    Warned("the lock is stale", "lock it again"),
    Started("environments"),
    Started("layer", "/opt/kernel", 2),
    Started("download", "a.whl", 1000, "bytes"),
    Started("download", "b.whl", None, "bytes"),
    Started("download", "c.whl", 500, "bytes"),
    Finished("download", "c.whl", cached=True),
    Advanced("download", "a.whl", 600),
    Advanced("download", "a.whl", -600),
    Advanced("download", "a.whl", 1000),
    Finished("download", "a.whl", 0.3),
    Advanced("download", "b.whl", 300),
    Finished("download", "b.whl", 0.3),
    Finished("layer", "a==1"),
    Finished("layer", "b==1", cached=True),
    Finished("layer", "/opt/kernel"),
    Finished("environments", seconds=1.5),
]


def hear(listener: Listener, *events: Event) -> None:
    for event in events:
        listener(event)


def test_lines_tell_what_ended(capsys: pytest.CaptureFixture[str]) -> None:
    hear(Plain(verbose=False), *BUILD)
    out, said = capsys.readouterr()
    assert out == ""
    assert said.splitlines() == [
        "Matching a.ipynb (0.60 s)",
        "bookworm: the newest",
        "warning: the lock is stale",
        "hint: lock it again",
        "Writing environments from 2 downloads of 1.3 KiB (1.50 s)",
    ]


def test_verbose_lines_tell_of_every_file(capsys: pytest.CaptureFixture[str]) -> None:
    hear(Plain(verbose=True), *BUILD)
    said = capsys.readouterr().err.splitlines()
    assert "Reading a.ipynb (0.20 s)" in said
    assert "Downloading a.whl (0.30 s)" in said
    assert "Downloading c.whl (cached)" in said
    assert "Writing layers a==1 (0.00 s)" in said


def test_json_lines_are_one_object_each(capsys: pytest.CaptureFixture[str]) -> None:
    hear(JsonLines(), *BUILD, Note('quotes " and \n breaks and ünïcode'))
    out, said = capsys.readouterr()
    assert out == ""
    rows = [json.loads(line) for line in said.splitlines()]
    assert len(rows) == len(BUILD) + 1
    assert rows[0] == {"event": "started", "task": "read", "subject": "a.ipynb", "total": None, "unit": "items"}
    assert rows[-1] == {"event": "note", "text": 'quotes " and \n breaks and ünïcode'}


def test_lines_of_many_threads_do_not_mix(capfd: pytest.CaptureFixture[str]) -> None:
    listener = JsonLines()
    with ThreadPoolExecutor(8) as executor:
        list(executor.map(lambda n: listener(Advanced("download", "x" * 200, n)), range(400)))
    rows = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert sorted(row["amount"] for row in rows) == list(range(400))


def test_none_keeps_warnings_and_quiet_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    hear(Quiet(silent=False), *BUILD)
    assert capsys.readouterr().err == "warning: the lock is stale\nhint: lock it again\n"
    hear(Quiet(silent=True), *BUILD)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("progress", "quiet", "kind"),
    [
        ("auto", False, Plain),
        ("plain", False, Plain),
        ("none", False, Quiet),
        ("auto", True, Quiet),
        ("json", False, JsonLines),
        ("json", True, JsonLines),
    ],
)
def test_the_options_choose_the_listener(progress: str, quiet: bool, kind: type) -> None:
    with listening(progress, quiet=quiet, verbose=False) as listener:
        assert isinstance(listener, kind)


@pytest.mark.parametrize("make", [lambda: Plain(verbose=True), JsonLines, lambda: Quiet(silent=False)])
def test_a_listener_does_not_raise_when_nobody_reads(
    make: Callable[[], Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closed(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Closed())
    hear(make(), *BUILD)


# -- bars ------------------------------------------------------------------------------------------


class Screen:
    """Bars on a console that is a string."""

    def __init__(self) -> None:
        self.text = io.StringIO()
        console = Console(file=self.text, force_terminal=True, width=200, color_system=None)
        self.progress = Progress(TextColumn("{task.description}"), BarColumn(), console=console, auto_refresh=False)
        self.bars = Bars(self.progress)

    def rows(self) -> dict[str, tuple[float, float | None, str]]:
        return {task.description: (task.completed, task.total, task.fields["amount"]) for task in self.progress.tasks}


def test_bars_add_up_to_what_was_announced() -> None:
    screen = Screen()
    with screen.progress:
        hear(screen.bars, *BUILD)
    assert screen.rows() == {
        "Reading": (1, 1, ""),
        "Matching": (1, 1, ""),
        "Asking indexes": (2, 2, "2 of 2"),
        "Writing environments": (1, 1, ""),
        "Writing layers": (2, 2, "2 of 2"),
        "Downloading": (1800, 1800, "1.8 KiB of 1.8 KiB"),
    }
    assert "the lock is stale" in screen.text.getvalue()


def test_a_bar_stands_where_the_work_stands() -> None:
    screen = Screen()
    hear(screen.bars, Started("download", "a", 1000, "bytes"), Started("download", "b", 1000, "bytes"))
    hear(screen.bars, Advanced("download", "a", 1000), Finished("download", "a", 1.0))
    assert screen.rows()["Downloading"][:2] == (1000, 2000)
    hear(screen.bars, Started("layer", "/opt/kernel", 4), Finished("layer", "a==1"))
    assert screen.rows()["Writing layers"][:2] == (1, 4)


def test_a_bar_without_a_total_moves_until_its_work_ends() -> None:
    screen = Screen()
    hear(screen.bars, Started("match", "a"))
    assert screen.rows()["Matching"][1] is None
    hear(screen.bars, Finished("match", "a", 0.1))
    assert screen.rows()["Matching"][:2] == (1, 1)


def test_a_transfer_that_starts_anew_takes_its_bar_back_and_never_below_nothing() -> None:
    screen = Screen()
    hear(screen.bars, Started("download", "a", 1000, "bytes"), Advanced("download", "a", 700))
    hear(screen.bars, Advanced("download", "a", -700))
    assert screen.rows()["Downloading"][:2] == (0, 1000)
    hear(screen.bars, Advanced("download", "a", -700), Advanced("other", "x", 5), Finished("other", "x"))
    assert screen.rows()["Downloading"][:2] == (0, 1000)


def test_text_with_brackets_is_shown_as_it_is() -> None:
    screen = Screen()
    with screen.progress:
        hear(screen.bars, Warned('metadata["x"] is [/red] stale', "[b]lock[/b] it"), Note("[/nothing]"))
    for text in ('warning: metadata["x"] is [/red] stale', "hint: [b]lock[/b] it", "[/nothing]"):
        assert text in screen.text.getvalue()


def test_a_short_build_starts_no_bars(capsys: pytest.CaptureFixture[str]) -> None:
    def never() -> Listener:
        raise AssertionError

    hear(Patient(never), *BUILD)
    err = capsys.readouterr().err
    assert "warning: the lock is stale" in err
    assert "the newest" in err


def test_late_bars_hear_what_was() -> None:
    heard: list[Event] = []
    patient = Patient(lambda: heard.append, wait=0.05)
    hear(patient, *BUILD[:4])
    assert heard == []
    time.sleep(0.06)
    hear(patient, *BUILD[4:])
    assert heard == BUILD


WORK = """
import sys, time
from nb2image.cli.listeners import listening
from nb2image.progress import Finished, Started
with listening("auto", quiet=False, verbose=False) as listener:
    listener(Started("layer", "/opt/kernel", 2))
    for name in ("alpha", "beta"):
        time.sleep(0.7)
        listener(Finished("layer", name))
print("done")
"""


def test_bars_are_drawn_on_a_terminal_and_gone_in_the_end() -> None:
    leader, follower = pty.openpty()
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(
        [sys.executable, "-c", WORK],
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=follower,
    ) as process:
        os.close(follower)
        seen = b""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if select.select([leader], [], [], 0.1)[0]:
                try:
                    piece = os.read(leader, 65536)
                except OSError:  # Linux: the other side was closed.
                    break
                if not piece:
                    break
                seen += piece
        assert process.stdout is not None
        out = process.stdout.read().decode()
    os.close(leader)
    assert process.returncode == 0, seen.decode()
    text = seen.decode()
    assert "Writing layers" in text
    assert "\x1b[" in text
    assert text.rstrip().endswith("\x1b[2K") or "\x1b[?25h" in text
    assert out == "done\n"
