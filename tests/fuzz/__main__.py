"""``python -m tests.fuzz TARGET --seconds N``: fuzz one target with atheris (libFuzzer).

Ends with libFuzzer's statistics and exit code 0, or with the traceback of what was found, exit code 77 and the input in
a file ``crash-…`` below the work folder. Where atheris has no wheel (other platforms and Pythons), seeds are mutated
without the guidance of coverage.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

NAMES = ("zip", "wheel", "record", "metadata", "pages", "locks", "layer", "image", "elf", "deb", "bases")
_LONGEST = 16384
"""Bytes of an input; the largest seeds are image archives of ten KiB."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("target", choices=NAMES)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers")
    parser.add_argument("--folder", type=Path, help="keep the inputs that reach new code here, and begin with them")
    parser.add_argument("--unguided", action="store_true", help="mutate seeds without atheris")
    parser.add_argument("inputs", nargs="*", type=Path, help="run these inputs only, to see what one of them does")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix=f"fuzz-{arguments.target}-"))
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.inputs:
        from tests.fuzz.targets import TARGETS

        for path in arguments.inputs:
            TARGETS[arguments.target].run(path.read_bytes())
    elif arguments.unguided or importlib.util.find_spec("atheris") is None:
        unguided(arguments.target, arguments.seconds, arguments.seed, folder)
    else:
        guided(arguments.target, arguments.seconds, arguments.seed, folder)


def guided(name: str, seconds: int, seed: int, folder: Path) -> None:
    """Does not return: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["nb2image"]):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[name]
    for data in target.seeds():
        target.run(data)  # what is imported late must not count as a slow input
    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for number, data in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(data)
    words = folder / "words"
    quoted = ['"' + "".join(f"\\x{byte:02x}" for byte in word) + '"' for word in target.words]
    words.write_text("\n".join(["# words of the format", *quoted, ""]))
    options = {
        "max_total_time": seconds, "seed": seed, "max_len": _LONGEST, "timeout": 20, "rss_limit_mb": 2048,
        "print_final_stats": 1, "artifact_prefix": f"{folder}/", "dict": words,
    }  # fmt: skip
    atheris.Setup([sys.argv[0], *(f"-{key}={value}" for key, value in options.items()), str(corpus)], target.run)
    atheris.Fuzz()


def unguided(name: str, seconds: int, seed: int, folder: Path) -> None:
    from tests.fuzz.targets import TARGETS

    target = TARGETS[name]
    seeds = list(target.seeds())
    source = random.Random(seed)
    runs = 0
    stop = time.monotonic() + seconds
    while runs < len(seeds) or time.monotonic() < stop:
        data = seeds[runs] if runs < len(seeds) else mutated(source, source.choice(seeds), target.words)
        runs += 1
        try:
            target.run(data)
        except Exception:
            crash = folder / f"crash-{os.getpid()}"
            crash.write_bytes(data)
            print(f"found after {runs} runs; the input is {crash}", file=sys.stderr)
            raise
    print(f"Done {runs} runs in {seconds} second(s), unguided", file=sys.stderr)


def mutated(source: random.Random, data: bytes, words: tuple[bytes, ...]) -> bytes:
    edits: tuple[Callable[[], bytes], ...] = (
        lambda: bytes([source.randrange(256)]),
        lambda: source.choice(words or (b"\0",)),
        lambda: b"",
        lambda: data[source.randrange(len(data) + 1) :][: source.randrange(40)],
    )
    for _ in range(source.choice((1, 1, 2, 4))):
        position = source.randrange(len(data) + 1)
        data = data[:position] + source.choice(edits)() + data[position + source.choice((0, 1, 1, 4, 30)) :]
    return data


if __name__ == "__main__":
    main()
