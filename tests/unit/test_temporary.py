"""An interrupt that comes while a temporary file or folder is made leaves nothing of it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

_INTERRUPTED = """\
import os, pathlib, signal, sys
from nb2image.temporary import temporary_file, temporary_folder

name = sys.argv[1]
call = getattr(os, name)

def interrupted(path, *rest):
    result = call(path, *rest)
    if "-" in pathlib.Path(path).name:
        os.kill(os.getpid(), signal.SIGINT)
    return result

setattr(os, name, interrupted)
folder = pathlib.Path(sys.argv[2])
with temporary_file(folder) if name == "open" else open(temporary_folder(folder)):
    pass
"""


@pytest.mark.parametrize("call", ["open", "mkdir"])
def test_an_interrupt_while_one_is_made_leaves_nothing(call: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED, call, tmp_path], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == -signal.SIGINT, done.stderr
    assert list(tmp_path.iterdir()) == []
