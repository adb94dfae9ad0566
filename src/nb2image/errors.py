"""Everything that can go wrong, as a tree; each leaf has an exit code and says what to do.

::

    Nb2ImageError
    ├── NotebookError      10-19  the notebook or its lock cannot be used
    ├── IndexFailure       20-29  a package index or a download
    ├── TargetError        30-39  no base, no file for the base, unsatisfiable support packages
    ├── WheelError         40-49  a wheel is damaged or hostile, a source distribution cannot be built
    ├── BaseError          50-59  a base image cannot be had
    ├── OutputError        60-69  the image cannot be written, loaded or run
    ├── WorkerDied            70  a process that wrote layers was killed
    ├── ChangeError        80-89  an image is not what another one, or its own lock, says
    └── RegistryFailure    90-99  a container registry

Exit codes 1 and 2 keep their usual meaning (unexpected failure, wrong usage of the command line).
A leaf class exists per *kind* of failure that a caller or a test must tell apart; its module-level
neighbours are written next to the code that raises them only by importing from here.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "AmbiguousNotebook",
    "BadCatalogue",
    "BadPythonBuild",
    "BadSdist",
    "BadSignature",
    "BadWheel",
    "BaseError",
    "BasePackagesGone",
    "BrokenLock",
    "BytecodeUnavailable",
    "ChangeError",
    "EmptyLock",
    "EngineAbsent",
    "EngineRefused",
    "ForeignLanguage",
    "HashMismatch",
    "ImagesDiffer",
    "IndexAnswered",
    "IndexFailure",
    "IndexUnreachable",
    "LockedTwice",
    "MissingLibraries",
    "Nb2ImageError",
    "NoCompiler",
    "NoCuda",
    "NoLock",
    "NoMatchingBase",
    "NoMatchingFiles",
    "NoSuchImage",
    "NotANotebook",
    "NotAnImage",
    "NotCached",
    "NotInImage",
    "NotVerified",
    "NotebookError",
    "OutputError",
    "PackageGone",
    "RegistryAnswered",
    "RegistryFailure",
    "RegistryRefused",
    "RegistryUnreachable",
    "SdistFailed",
    "StaleLock",
    "SupportConflict",
    "SystemPackagesUnusable",
    "TargetError",
    "TooManyLayers",
    "UnfitBase",
    "UnhashedPackage",
    "Unresolvable",
    "UnsupportedSource",
    "UnusableRepository",
    "Unwritable",
    "WheelError",
    "WorkerDied",
]


class Nb2ImageError(Exception):
    """Base of all errors that a user may meet.

    ``message`` is one sentence that says what is wrong and where; ``hint`` says what to do about it;
    ``details`` are further lines (a table, the end of a log) shown between the two.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "", details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        # Leaves have initialisers of their own; what crosses from a worker process is what came of them.
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[Nb2ImageError], arguments: tuple[Any, ...], state: dict[str, Any]) -> Nb2ImageError:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(state)
    return error


# -- the notebook and its lock --------------------------------------------------------------------


class NotebookError(Nb2ImageError):
    """The notebook or its lock cannot be used."""

    exit_code = 19


class NotANotebook(NotebookError):
    """The file is no notebook: missing, not JSON, not nbformat 4, not a percent script."""

    exit_code = 10


class ForeignLanguage(NotebookError):
    """The notebook's kernel language is not Python."""

    exit_code = 11


class NoLock(NotebookError):
    """Neither the notebook nor the files beside it lock any dependency."""

    exit_code = 12


class EmptyLock(NotebookError):
    """There is a lock, and it lists no package."""

    exit_code = 13


class BrokenLock(NotebookError):
    """There is a lock that cannot be read: broken JSON or TOML, wrong types, unknown version."""

    exit_code = 14


class UnhashedPackage(NotebookError):
    """A locked package has no hash of sha256 or stronger."""

    exit_code = 15


class StaleLock(NotebookError):
    """With ``--strict``: the lock was made for other requirements than the notebook states now."""

    exit_code = 16


class AmbiguousNotebook(NotebookError):
    """A directory holds no notebook, or several and none was named."""

    exit_code = 17


class UnsupportedSource(NotebookError):
    """A locked package comes from version control or a local folder, so no hash can hold it."""

    exit_code = 18


class UnusableRepository(NotebookError):
    """A file of a notebook repository cannot come along: a link that leads out of it, a name that is not UTF-8,
    no permission to read; or an ignore file has a pattern that means nothing."""


class LockedTwice(BrokenLock):
    """Two entries of one package apply to the same target."""


# -- package indexes --------------------------------------------------------------------------------


class IndexFailure(Nb2ImageError):
    """A package index or a download failed."""

    exit_code = 29


class IndexUnreachable(IndexFailure):
    """No answer, or none that arrives whole: name resolution, refused connection, time-out, TLS, a broken transfer."""

    exit_code = 20


class IndexAnswered(IndexFailure):
    """The index answered with an error status, or with something that is no index page."""

    exit_code = 21


class PackageGone(IndexFailure):
    """No index knows the package, or none of its files has a locked hash."""

    exit_code = 22


class HashMismatch(IndexFailure):
    """A download has another hash than the lock states."""

    exit_code = 23


class NotCached(IndexFailure):
    """``--offline`` and something needed is not in the cache."""

    exit_code = 24


class Unresolvable(IndexFailure):
    """No versions at the indexes satisfy some requirements; ``details`` are the resolver's words."""

    exit_code = 25


# -- matching ------------------------------------------------------------------------------------------


class TargetError(Nb2ImageError):
    """Nothing fits."""

    exit_code = 39


class NoMatchingFiles(TargetError):
    """Locked packages have no file that the target can install; ``details`` is the table."""

    exit_code = 30


class NoMatchingBase(TargetError):
    """No base image has the lock's Python or platform."""

    exit_code = 31


class SupportConflict(TargetError):
    """A support package of the kernel cannot work with a locked version."""

    exit_code = 32


class BytecodeUnavailable(TargetError):
    """Bytecode was asked for and no interpreter of the target's minor version can be started."""

    exit_code = 33


class TooManyLayers(TargetError):
    """Base and own layers together exceed what engines mount."""

    exit_code = 34


class NoCuda(TargetError):
    """With ``--gpu``: nothing that is locked can use a GPU, or what it needs of CUDA is in no base."""

    exit_code = 35


class MissingLibraries(TargetError):
    """With ``--strict``: packages need shared libraries that neither the wheels nor the base have; ``details`` are a
    sentence for each."""

    exit_code = 36


# -- wheels ----------------------------------------------------------------------------------------------


class WheelError(Nb2ImageError):
    """A wheel cannot be installed."""

    exit_code = 49


class BadWheel(WheelError):
    """A wheel breaks the zip or the wheel specification; names the wheel, the member and the rule."""

    exit_code = 40

    def __init__(self, wheel: str, member: str | None, rule: str) -> None:
        place = f"{wheel}: {member!r}" if member is not None else wheel
        super().__init__(
            f"{place}: {rule}.",
            hint="The wheel is damaged or hostile although its hash is the locked one; "
            "report it to the package's maintainers and lock another version.",
        )
        self.wheel = wheel
        self.member = member
        self.rule = rule


class BadSdist(WheelError):
    """A source distribution is damaged or hostile, or not the package that the lock says it is."""

    exit_code = 41

    def __init__(self, filename: str, member: str | None, rule: str) -> None:
        place = f"{filename}: {member!r}" if member is not None else filename
        super().__init__(
            f"{place}: {rule}.",
            hint="The source distribution cannot be used although its hash is the locked one; "
            "lock a version that has wheels, or another one.",
        )


class SdistFailed(WheelError):
    """A source distribution could not be built; ``details`` are the last lines of the build."""

    exit_code = 42


# -- bases -------------------------------------------------------------------------------------------------


class BaseError(Nb2ImageError):
    """A base image cannot be had."""

    exit_code = 59


class NotAnImage(BaseError):
    """The path given as a base holds no OCI layout or archive, or one that is damaged."""

    exit_code = 50


class BasePackagesGone(BaseError):
    """Locked packages of a base are on no mirror any more, and ``--strict`` forbids another base."""

    exit_code = 51


class BadSignature(BaseError):
    """A distribution's release file is not signed by a key that is trusted."""

    exit_code = 52


class NoCompiler(BaseError):
    """A compiler was asked for, and the base is none that one is known for."""

    exit_code = 53


class NotInImage(BaseError):
    """``nb2image inspect`` was asked for a file or a package that the image does not have."""

    exit_code = 54


class SystemPackagesUnusable(BaseError):
    """System packages were asked for that cannot be added: no such package, two that conflict, a base that is none of
    Debian's."""

    exit_code = 55


class BadPythonBuild(BaseError):
    """What ``--python-build`` names is no relocatable CPython, is damaged or hostile, or has no hash."""

    exit_code = 58


class BadCatalogue(BaseError):
    """A catalogue of bases, or the configuration that names one, has an error; names file, line and key."""

    exit_code = 57


# -- outputs -------------------------------------------------------------------------------------------------


class OutputError(Nb2ImageError):
    """The image cannot be written, loaded or run."""

    exit_code = 69


class Unwritable(OutputError):
    """An output or the cache cannot be written: permissions, no space, a file where a folder must be."""

    exit_code = 60


class EngineAbsent(OutputError):
    """No Docker or podman answers."""

    exit_code = 61


class EngineRefused(OutputError):
    """The engine answered and refused."""

    exit_code = 62


# -- this machine ----------------------------------------------------------------------------------------------------


class WorkerDied(Nb2ImageError):
    """A process that wrote layers was killed, most often for want of memory."""

    exit_code = 70

    def __init__(self) -> None:
        super().__init__(
            "A process that was writing layers was killed.",
            hint="This machine may be out of memory (`dmesg` says so); close other programs and build again: "
            "layers that are finished are kept.",
        )


# -- images compared ---------------------------------------------------------------------------------------------------


class ChangeError(Nb2ImageError):
    """An image is not what another one, or its own lock, says."""

    exit_code = 89


class ImagesDiffer(ChangeError):
    """``nb2image diff --exit-code`` found a difference."""

    exit_code = 80


class NotVerified(ChangeError):
    """An image is not what its lock gives, or does not say enough for that to be known."""

    exit_code = 81


class UnfitBase(ChangeError):
    """An image's layers would not work on another base."""

    exit_code = 82


# -- registries ------------------------------------------------------------------------------------------------


class RegistryFailure(Nb2ImageError):
    """A container registry, or a transfer from or to one, failed."""

    exit_code = 99


class RegistryUnreachable(RegistryFailure):
    """No answer, or none that arrives whole: name resolution, refused connection, time-out, TLS, a broken transfer."""

    exit_code = 90


class RegistryAnswered(RegistryFailure):
    """An error status, bytes of another digest than was asked for, or no registry at all."""

    exit_code = 91


class RegistryRefused(RegistryFailure):
    """The registry wants credentials, or others than were given."""

    exit_code = 92


class NoSuchImage(RegistryFailure):
    """The registry does not know the repository, the tag or the digest."""

    exit_code = 93
