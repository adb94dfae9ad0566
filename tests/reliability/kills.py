"""Interrupt real builds at random moments, and check that the next build is as if nothing had happened.

::

    python -m tests.reliability.kills [--moments 100] [--seed 1] [--small] [--folder DIR]

Each moment: a build of the example begins (from an empty cache, from one without layers, or from one in which only the
notebook is new, or only the bytecode), over outputs of an earlier image, and gets SIGKILL, SIGTERM, or SIGINT with its
whole process group as a terminal sends it. Then

* its exit code is 130 or 143 and it said one sentence (SIGKILL: nothing to say; before our code runs: Python's own),
* a second later none of its processes is left,
* each output is the earlier one or the new one, whole; SIGINT and SIGTERM leave no other file,
* each blob in the cache has the digest that is its name; SIGINT and SIGTERM leave nothing unfinished.

Half of the times another build is interrupted on what this one left. Then one to its end leaves the files of a build
that was never interrupted, and nothing unfinished. Packages come from loopback.

One line of JSON per moment; exit code 1 if anything of this did not hold.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from nb2image.cache import Store
from tests.reliability.loopback import EXAMPLE, OPTIONS, loopback
from tests.unit.index.server import serving
from tests.unit.world import World, make_world, notebook, pylock, wheel

__all__ = ["STAGES", "Ended", "Moment", "Trial", "damaged_blobs", "processes_of", "sha256_of", "small_trial"]

SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
CODES = {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}
SENTENCE = "interrupted"
_MARK = "NB2IMAGE_TRIAL"
_LONGEST = 600.0
"""Seconds after which a build counts as blocked."""

Prepare = Callable[[Store], None]


def _without_layers(store: Store) -> None:
    for part in ("layers", "roots", "records"):
        shutil.rmtree(store.root / "v1" / part, ignore_errors=True)


def _emptied(store: Store) -> None:
    shutil.rmtree(store.root)


class Stage(NamedTuple):
    """What an interrupted build starts from: ``take`` takes out of a cache that has everything but the new notebook.
    ``options`` go to the build, and ``share`` of a hundred moments fall into it."""

    take: Prepare
    share: int
    options: tuple[str, ...] = ("--no-bytecode",)


STAGES: Mapping[str, Stage] = {
    "cold": Stage(_emptied, 30),
    "layers": Stage(_without_layers, 25),
    "notebook": Stage(lambda _: None, 40),
    # Bytecode of everything, which the cache has none of: expensive, so not often.
    "bytecode": Stage(lambda _: None, 5, ("--bytecode",)),
}


class Moment(NamedTuple):
    """When to send what; ``after`` in seconds from the start of the process."""

    stage: str
    number: signal.Signals
    after: float


class Ended(NamedTuple):
    """How a build ended: None for ``late`` when it was over before its moment, else seconds from the signal to the end.
    ``orphans`` are command lines of processes that lived a second longer."""

    code: int
    said: str
    late: float | None
    orphans: tuple[str, ...]


def starting(moment: Moment, ended: Ended) -> bool:
    """Whether Python itself was still starting or importing the command: then it answers, with the signal or with 1,
    and with a traceback that our ``main`` is not in."""
    own = ended.code in {-moment.number, 1} and ended.code != CODES[signal.SIGKILL]
    silent = ended.code == -moment.number and not ended.said
    return own and (silent or (ended.said.rstrip().endswith("KeyboardInterrupt") and "in main\n" not in ended.said))


def processes_of(mark: str) -> dict[int, str]:
    """Command lines of living processes that have ``mark`` in their environment, by number."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark.encode() in (entry / "environ").read_bytes():
                    words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                    found[int(entry.name)] = " ".join(words).strip()
            except OSError:
                continue
    return found


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as stream:
        value = hashlib.sha256()
        while piece := stream.read(1 << 20):
            value.update(piece)
    return value.hexdigest()


def damaged_blobs(store: Store) -> Iterator[str]:
    """Sentences on blobs with other bytes than their names say."""
    for room in ("wheels", "bases", "layers"):
        for path in (store.root / "v1" / room).rglob("*"):
            if path.is_file() and sha256_of(path) != path.name:
                yield f"in the cache: {room} {path.name} has other bytes"


def _files(folder: Path) -> dict[str, str]:
    """sha256 of every file below a folder by its path; folders are listed too."""
    return {
        str(path.relative_to(folder)): sha256_of(path) if path.is_file() else "folder" for path in folder.rglob("*")
    }


def _copied(source: Path, target: Path) -> None:
    """Files are hard links: nothing that is tested here changes one in place, or the copies would show it."""
    subprocess.run(["cp", "-al", source, target], check=True)


@dataclass
class Trial:
    """One build under test. ``command`` is ``build`` with all but the notebook and the outputs; ``old`` and ``new``
    are folders that hold two versions of one notebook."""

    folder: Path
    command: Sequence[str]
    environ: Mapping[str, str]
    old: Path
    new: Path
    seconds: dict[str, float] = field(default_factory=dict)
    _later: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        return Store(self.folder / "cache")

    @property
    def outputs(self) -> Path:
        return self.folder / "outputs"

    def _arguments(self, notebook: Path, options: Sequence[str]) -> list[str]:
        names = ("image.tar", "layout")
        outputs = [word for name in names for word in ("-o", str(self.outputs / name))]
        return [*self.command, *options, str(notebook), *outputs, "--sbom", str(self.outputs / "sbom.json"), "--quiet"]

    def _start(self, notebook: Path, stage: str, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._arguments(notebook, STAGES[stage].options),
            cwd=self.folder,
            env={**self.environ, "NB2IMAGE_CACHE_DIR": str(self.store.root), **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def _whole(self, notebook: Path, stage: str) -> float:
        """Build to the end; returns the seconds that it took."""
        begin = time.monotonic()
        process = self._start(notebook, stage)
        try:
            _, said = process.communicate(timeout=_LONGEST)
        except BaseException:
            process.kill()
            process.wait()
            raise
        assert process.returncode == 0, said
        return time.monotonic() - begin

    def prepare(self, stages: Sequence[str]) -> None:
        """Make the outputs of the old notebook and those that a build of the new one must come to."""
        # What a shell starts in the background ignores Ctrl-C, and so does all that it starts in turn.
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        (notebook,) = self.old.iterdir()
        self.outputs.mkdir()
        self._whole(notebook, "cold")
        _copied(self.store.root, self.folder / "full")
        _copied(self.outputs, self.folder / "earlier")
        self._earlier = _files(self.outputs)
        for stage in stages:
            self.begin(stage)
            self.seconds[stage] = self._whole(self._notebook, stage)
            self._later[stage] = _files(self.outputs)

    @property
    def _notebook(self) -> Path:
        (notebook,) = self.new.iterdir()
        return notebook

    def begin(self, stage: str) -> None:
        """Put cache and outputs into the state that a stage begins with."""
        for target, source in ((self.store.root, "full"), (self.outputs, "earlier")):
            shutil.rmtree(target, ignore_errors=True)
            _copied(self.folder / source, target)
        STAGES[stage].take(self.store)

    def interrupted(self, moment: Moment) -> Ended:
        """Begin a build on what is there and end it at a moment."""
        mark = secrets.token_hex(16)
        process = self._start(self._notebook, moment.stage, **{_MARK: mark})
        try:
            _, said = process.communicate(timeout=moment.after)
            return Ended(process.returncode, said, None, self._left(mark))
        except subprocess.TimeoutExpired:
            pass
        begin = time.monotonic()
        if moment.number == signal.SIGINT:
            os.killpg(process.pid, moment.number)
        else:
            process.send_signal(moment.number)
        # The pipe of what it says stays open as long as any of its processes has it.
        code = process.wait(_LONGEST)
        late = time.monotonic() - begin
        left = self._left(mark)
        assert process.stderr is not None
        with process.stderr:
            return Ended(code, process.stderr.read(), late, left)

    def _left(self, mark: str) -> tuple[str, ...]:
        """Command lines of processes that live on for more than a second; they are ended here."""
        end = time.monotonic() + 1
        while (left := processes_of(mark)) and time.monotonic() < end:
            time.sleep(0.02)
        for number in left:
            os.kill(number, signal.SIGKILL)
        return tuple(left.values())

    def wrong(self, moment: Moment, ended: Ended, *, killed: bool) -> Iterator[str]:
        """Everything that is not as it must be right after a moment; ``killed``: this build or one before it on the
        same folders got SIGKILL, which leaves to the next whole build to take away what is unfinished."""
        if ended.late is None:
            yield from () if ended.code == 0 else (f"failed without a signal: {ended.code}: {ended.said}",)
        elif ended.code == 0 and ended.late < 1:
            pass  # All was done, and but for its last steps the process over.
        elif starting(moment, ended):
            pass
        elif ended.code == -signal.SIGINT and ended.said.strip() == SENTENCE:
            pass  # 130 to a shell: so Python ends after a KeyboardInterrupt that came inside ``exec`` of a text.
        elif ended.code != CODES[moment.number]:
            yield f"exit code {ended.code}: {ended.said}"
        elif ended.code > 0 and ended.said.strip() != SENTENCE:
            yield f"said {ended.said!r}"
        yield from (f"lives on: {line}" for line in ended.orphans)
        yield from self._outputs_wrong(moment.stage, strict=not killed)
        yield from damaged_blobs(self.store)
        if not killed:
            yield from (f"unfinished: {path}" for path in self._unfinished())

    def wrong_in_the_end(self, stage: str) -> Iterator[str]:
        """Build once more, to the end; everything that is then not as if no build had been interrupted."""
        self._whole(self._notebook, stage)
        after, later = _files(self.outputs), self._later[stage]
        for name in sorted(after.keys() | later.keys()):
            if after.get(name) != later.get(name):
                yield f"in the end {name} is {after.get(name)} and not {later.get(name)}"
        yield from (f"unfinished in the end: {path}" for path in self._unfinished())

    def _outputs_wrong(self, stage: str, *, strict: bool) -> Iterator[str]:
        for name, digest in _files(self.outputs).items():
            known = {self._earlier.get(name), self._later[stage].get(name)} - {None}
            if digest not in known and (known or strict):
                yield f"{name} is {digest} and not {' or '.join(map(str, known)) or 'absent'}"
        yield from (f"{name} is gone" for name in self._earlier if not (self.outputs / name).exists())

    def _unfinished(self) -> list[str]:
        folder = self.store.root / "v1" / "tmp"
        return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def _rounds(trial: Trial, moments: int, seed: int) -> Iterator[tuple[Moment, Ended, list[str]]]:
    """Moments until so many builds were interrupted; what came of each."""
    chosen = random.Random(seed)
    stages = list(trial.seconds)
    while moments:
        (stage,) = chosen.choices(stages, [STAGES[name].share for name in stages])
        trial.begin(stage)
        again, killed = True, False
        while again:
            moment = Moment(stage, chosen.choice(SIGNALS), round(chosen.uniform(0, trial.seconds[stage]), 3))
            ended = trial.interrupted(moment)
            moments -= ended.late is not None
            killed |= ended.late is not None and moment.number == signal.SIGKILL
            again = ended.late is not None and moments > 0 and chosen.random() < 0.5
            wrong = list(trial.wrong(moment, ended, killed=killed))
            yield moment, ended, wrong if again else [*wrong, *trial.wrong_in_the_end(stage)]


def run(trial: Trial, moments: int, seed: int) -> list[str]:
    """Print a line per moment and a summary; returns all that was wrong."""
    problems: list[str] = []
    count: Counter[str] = Counter()
    slowest = 0.0
    for moment, ended, wrong in _rounds(trial, moments, seed):
        row = {"stage": moment.stage, "signal": moment.number.name, "after": moment.after, "code": ended.code}
        late = None if ended.late is None else round(ended.late, 2)
        print(json.dumps({**row, "seconds to the end": late, "wrong": wrong}), flush=True)
        problems += [f"{moment.stage} {moment.number.name} {moment.after}: {each}" for each in wrong]
        if ended.late is None:
            count["over before"] += 1
        elif starting(moment, ended):
            count["while Python started"] += 1
        else:
            count[f"{moment.stage} {moment.number.name}"] += 1
            slowest = max(slowest, ended.late)
    print(
        json.dumps({"moments": moments, "seed": seed, **dict(sorted(count.items())), "slowest end": round(slowest, 2)})
    )
    print(f"{len(problems)} wrong")
    return problems


def small_trial(world: World) -> Trial:
    """Twelve wheels of 2 MB on a base of a few files: all but the Debian packages and the bytecode, in a second."""
    made = [wheel(f"part-{n}", files={f"part{n}.bin": random.Random(n).randbytes(2_000_000)}) for n in range(12)]
    world.offer(*made)
    lock = pylock(*made, url=f"{world.server.url}/files")
    old, new = (notebook(world.folder / name, lock, title=name).parent for name in ("old", "new"))
    return Trial(world.folder, world.command("build", "--base", world.base), world.environ, old, new)


def example_notebooks(folder: Path) -> tuple[Path, Path]:
    """Folders with the example as it is, and with another last cell."""
    document = json.loads(EXAMPLE.read_text(encoding="utf-8"))
    for name in ("old", "new"):
        (folder / name).mkdir()
        (folder / name / EXAMPLE.name).write_text(json.dumps(document), encoding="utf-8")
        document["cells"][-1]["source"] = "print('changed')"
    return folder / "old", folder / "new"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--small", action="store_true", help="Made-up wheels and a made-up base in the example's place."
    )
    parser.add_argument("--folder", type=Path, help="Where to work; a new folder in it is used, and removed.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name, ExitStack() as stack:
        folder = Path(name)
        if options.small:
            (folder / "home").mkdir()
            trial = small_trial(make_world(folder, folder / "home", stack.enter_context(serving())))
            trial.prepare([stage for stage in STAGES if stage != "bytecode"])
        else:
            served = stack.enter_context(loopback(folder, Store.default()))
            command = (sys.executable, "-m", "nb2image", "build", *OPTIONS)
            trial = Trial(folder, command, served.environ, *example_notebooks(folder))
            trial.prepare(tuple(STAGES))
        print(json.dumps({"seconds of whole builds": {k: round(v, 2) for k, v in trial.seconds.items()}}), flush=True)
        problems = run(trial, options.moments, options.seed)
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
