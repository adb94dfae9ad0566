"""What is said of an image in words, for the table and for the page."""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

from nb2image.inspection.added import Untold, added_to
from nb2image.inspection.model import Inspection
from nb2image.runtime import KERNEL
from nb2image.sizes import shown

__all__ = ["Figure", "facts", "figures", "printable", "sentence", "utf8"]


def printable(text: str) -> str:
    """Text with control characters and marks of direction written out: names in an image may be made to deceive."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def utf8(text: str) -> str:
    """What can be written as UTF-8: names are bytes in a tar and on a command line; others become ``\\xNN``."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return text


def sentence(found: Inspection) -> str:
    """What the image is."""
    if not found.ours:
        system = f" of {found.system}" if found.system else ""
        return (
            f"{found.provenance.reference} is an image for {found.platform}{system}. "
            "nb2image did not build it, so it carries no lock of nb2image."
        )
    kind = {"jupyter": "JupyterLab with", "batch": "A batch run of"}.get(found.mode, "An image of")
    title = f" ({found.title})" if found.title and f"{found.title}.ipynb" != found.notebook else ""
    locked = f" and the {len(found.lock.packages)} packages that it locks" if found.lock else ""
    return f"{kind} {found.notebook}{title}: Python {found.python} on {found.platform}{locked}."


def facts(found: Inspection) -> list[tuple[str, str]]:
    """Names and values, in the order in which they are read."""
    provenance = found.provenance
    rows = [("image", ", ".join(provenance.names) or provenance.reference)]
    if provenance.digest:
        rows.append(("digest", provenance.digest))
    elif provenance.id:
        rows.append(("ID", provenance.id))
    if found.created:
        rows.append(("created", found.created))
    total = found.total
    rows.append(
        (
            "size",
            f"{shown(found.size)} in {_count(len(found.layers), 'layer')}; "
            f"{shown(total.size)} in {_count(total.files, 'file')}{_bytecode(found)}",
        )
    )
    rows.append(("base", _base(found)))
    with suppress(Untold):
        if added := added_to(found):
            rows.append(("added", f"Debian packages: {added}"))
    if found.lock:
        rows.append(("lock", _lock(found)))
    if found.hidden:
        lost = sum(file.size for file in found.hidden)
        rows.append(("hidden", f"{shown(lost)} in {_count(len(found.hidden), 'file')} that later layers hide"))
    if found.user:
        rows.append(("user", found.user))
    return rows


class Figure(NamedTuple):
    """What the page shows in large letters. ``state`` is ``good`` or ``bad`` where there is a verdict."""

    name: str
    value: str
    more: str
    state: str = ""


def figures(found: Inspection) -> list[Figure]:
    """The four things to know first."""
    total, lock = found.total, found.lock
    rows = [
        Figure("Layers", shown(found.size), f"stored in {_count(len(found.layers), 'layer')}"),
        Figure("Files", shown(total.size), f"in {_count(total.files, 'file')}{_bytecode(found)}"),
    ]
    if lock is None:
        python = sum(found.owners[number].kind == "wheel" for number in found.packages)
        more = f"{python:,} of Python, {len(found.packages) - python:,} of Debian"
        rows.append(Figure("Packages", f"{len(found.packages):,}", more))
    elif lock.exact:
        rows.append(Figure("Lock", _count(len(lock.packages), "package"), f"{KERNEL} holds exactly these", "good"))
    elif lock.problem:
        rows.append(Figure("Lock", "not readable", lock.problem, "bad"))
    else:
        differ = f"{len(lock.missing)} are missing in {KERNEL}, {len(lock.foreign)} are not locked"
        rows.append(Figure("Lock", _count(len(lock.packages), "package"), differ, "bad"))
    below = found.layers[: found.base_layers] if found.base_layers else ()
    of_base = f"{_count(len(below), 'layer')} of {shown(sum(layer.size for layer in below))}" if below else ""
    # What is in the parentheses is a code name.
    name = found.system.partition(" (")[0] or found.base_name or "not stated"
    rows.append(Figure("Base", name, of_base or f"for {found.platform}"))
    return rows


def _bytecode(found: Inspection) -> str:
    return f", {shown(found.total.bytecode)} of it bytecode" if found.total.bytecode else ""


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _base(found: Inspection) -> str:
    words = [found.base_name] if found.base_name else []
    if found.base_layers is not None:
        size = sum(layer.size for layer in found.layers[: found.base_layers])
        words.append(f"{_count(found.base_layers, 'layer')} of {shown(size)}")
    if found.system:
        words.append(found.system)
    return ", ".join(words) or "not stated"


def _lock(found: Inspection) -> str:
    lock = found.lock
    assert lock is not None
    if lock.problem:
        return f"{lock.path} cannot be read: {lock.problem}"
    words = f"{_count(len(lock.packages), 'package')} of {lock.source or lock.path}"
    if lock.exact:
        return f"{words}; {KERNEL} holds exactly these"
    wrong = [f"{KERNEL} lacks {', '.join(lock.missing)}"] if lock.missing else []
    if lock.foreign:
        wrong.append(f"{KERNEL} holds {', '.join(lock.foreign)}, which it does not lock")
    return f"{words}; {'; '.join(wrong)}"
