"""What is said of an image in words, for the table and for the page."""

from __future__ import annotations

from nb2image.inspection.model import Inspection
from nb2image.runtime import KERNEL
from nb2image.sizes import shown

__all__ = ["facts", "printable", "sentence"]


def printable(text: str) -> str:
    """Text with control characters and marks of direction written out: names in an image may be made to deceive."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


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
            f"{shown(total.size)} in {_count(total.files, 'file')}, {shown(total.bytecode)} of it bytecode",
        )
    )
    rows.append(("base", _base(found)))
    if found.lock:
        rows.append(("lock", _lock(found)))
    if found.hidden:
        lost = sum(file.size for file in found.hidden)
        rows.append(("hidden", f"{shown(lost)} in {_count(len(found.hidden), 'file')} that later layers hide"))
    if found.user:
        rows.append(("user", found.user))
    return rows


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
