"""Make whatever container, user and volumes there are fit to run in: home, user name, scratch, the work folder.

Images run under any numeric user with group 0, with a read-only root, with empty volumes over the work folder, and
under Apptainer with the host's home and environment.
"""

from __future__ import annotations

import errno
import os
import pwd
import signal
import stat
import sys
import tempfile
from types import FrameType
from typing import MutableMapping, NoReturn, Optional

from nb2image.runtime import OWN, SOURCE, WORK

UNWRITABLE = 60
"""Exit code: something that must be written cannot be (the same number as nb2image's own)."""

# Where the host or the user names a folder that cannot be written here, the program's own default is better.
_FOLDERS = (
    "IPYTHONDIR",
    "JUPYTER_CONFIG_DIR",
    "JUPYTER_DATA_DIR",
    "MPLCONFIGDIR",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
)


def say(text: str) -> None:
    """One sentence for whoever runs the image."""
    print(f"nb2image: {text}", file=sys.stderr, flush=True)


def fail(code: int, text: str) -> NoReturn:
    say(text)
    sys.exit(code)


def writable(folder: str) -> bool:
    """Whether files can be made in ``folder``; it is made first where it is missing.

    Tried, not asked: ``access(2)`` says yes on network file systems that then refuse.
    """
    try:
        os.makedirs(folder, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


def user() -> str:
    """``UID:GID`` of this process."""
    return f"{os.getuid()}:{os.getgid()}"


def _private(name: str) -> str:
    """A folder below the temporary one that belongs to this user alone."""
    try:
        path = os.path.join(tempfile.gettempdir(), name)
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            found = os.lstat(path)
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or not writable(path):
                path = tempfile.mkdtemp(prefix=f"{name}-")
    except OSError as error:
        fail(UNWRITABLE, f"no temporary folder can be written ({error.strerror}); mount one: --tmpfs /tmp")
    return path


def early_signals() -> None:
    """End on SIGTERM and SIGINT at once, until the entry point has better handlers.

    Process 1 of a container has no default ones: the kernel would drop the signals during the imports.
    """

    def end(number: int, _frame: Optional[FrameType]) -> None:
        os._exit(128 + number)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)


def environment(variables: MutableMapping[str, str] = os.environ) -> str:
    """Set what programs need to find; returns a private scratch folder."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free descriptor is this one.
            os.open(os.devnull, os.O_RDWR)
    scratch = _private(f"nb2image-{os.getuid()}")
    home = variables.get("HOME", "")
    if not os.path.isabs(home) or home == "/" or not writable(home):
        variables["HOME"] = _private(f"home-{os.getuid()}")
    for name in _FOLDERS:
        if name in variables and not writable(variables[name]):
            del variables[name]
    # Short, local and private: sockets of kernels stand in it.
    variables["JUPYTER_RUNTIME_DIR"] = os.path.join(scratch, "runtime")
    os.makedirs(variables["JUPYTER_RUNTIME_DIR"], mode=0o700, exist_ok=True)
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        # getpass.getuser() and all that use it fail for a user without an entry in /etc/passwd.
        name = "notebook"
    variables.setdefault("USER", name)
    variables.setdefault("LOGNAME", variables["USER"])
    variables.setdefault("PATH", os.defpath)
    variables["PYTHONNOUSERSITE"] = "1"
    variables.pop("PYTHONHOME", None)
    variables["JUPYTER_PATH"] = f"{OWN}/jupyter"
    variables["JUPYTER_CONFIG_PATH"] = f"{OWN}/jupyter/config"
    return scratch


def transport() -> str:
    """How kernels are spoken to: by sockets in the runtime folder, which need no network and nobody else can open."""
    # A socket's path has at most 107 bytes (unix(7)); Jupyter adds "/kernel-<uuid>-ipc-<n>".
    return "ipc" if len(os.environ["JUPYTER_RUNTIME_DIR"]) < 50 else "tcp"


def _copy(source: str, destination: str) -> None:
    """Copy a file unless its destination exists; a reader never sees half of it."""
    folder = os.path.dirname(destination)
    if os.path.islink(source):
        os.symlink(os.readlink(source), destination)
        return
    with open(source, "rb") as original, tempfile.NamedTemporaryFile(dir=folder, prefix=".nb2image-") as copy:
        while piece := original.read(1 << 20):
            copy.write(piece)
        copy.flush()
        os.fchmod(copy.fileno(), stat.S_IMODE(os.fstat(original.fileno()).st_mode))
        try:
            os.link(copy.name, destination)
        except FileExistsError:
            return
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS):
                raise
            # No hard links on this file system: exclusive creation keeps the promise not to overwrite.
            with open(source, "rb") as again, open(destination, "xb") as plain:
                while piece := again.read(1 << 20):
                    plain.write(piece)


def seed(source: str = SOURCE, work: str = WORK) -> None:
    """Bring the notebook's files into the work folder where a volume hides them; never overwrite one.

    Says one sentence, and goes on, when the work folder cannot be written.
    """
    try:
        for folder, folders, names in os.walk(source):
            place = os.path.normpath(os.path.join(work, os.path.relpath(folder, source)))
            names += [name for name in folders if os.path.islink(os.path.join(folder, name))]
            missing = [name for name in names if not os.path.lexists(os.path.join(place, name))]
            if missing:
                os.makedirs(place, exist_ok=True)
            for name in missing:
                _copy(os.path.join(folder, name), os.path.join(place, name))
    except OSError as error:
        say(f"the notebook's files cannot be copied to {work} ({error.strerror}; user {user()}).")
        return
    if not writable(work):
        say(f"{work} is not writable by user {user()}: notebooks that write beside themselves will fail.")
