"""`read_notebook`: a notebook file, a percent script or a notebook repository becomes a `Notebook`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from nb2image.errors import AmbiguousNotebook, ForeignLanguage, NotANotebook
from nb2image.notebook.repository import repository_files, unstorable

__all__ = ["Notebook", "read_notebook"]

_CELL_MARKER = re.compile(r"^#[ \t]*%%", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6}[ \t]+(\S.*?)[ \t#]*$", re.MULTILINE)
# Categories Cc, Cf, Cs, Zl and Zp of Unicode 15.1, spelt out: Python's own tables, those of `str.isprintable` too, grow
# with its version, and a title that one Python takes and another does not would give two digests.
_UNPRINTABLE = re.compile(
    "[\0-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u2064\u2066-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f]"
)
_TAG = re.compile(r"<[^<>]*>")
_TITLE_LENGTH = 200
_JSON_NOTEBOOK = "Save it from Jupyter as a notebook (.ipynb), or give a percent script (.py with '# %%' cells)."


@dataclass(frozen=True)
class Notebook:
    """A notebook as it was read.

    ``root`` is the repository's directory, None for a single file; ``name`` the path of ``file`` relative to it
    (``/``-separated), or the file's name. ``document`` is the notebook as nbformat 4 JSON; its ``metadata`` is an
    object and its ``cells`` are objects, everything deeper is as the file has it. ``raw`` are the bytes of the
    ipynb for the image, and ``script`` those of the percent script that it was made from, if any.
    """

    file: Path
    root: Path | None
    name: str
    document: dict[str, Any] = field(repr=False)
    raw: bytes = field(repr=False)
    script: bytes | None = field(default=None, repr=False)

    @property
    def document_name(self) -> str:
        """``name``, with the suffix of what is executed: a percent script runs as the ipynb of its name."""
        return str(PurePosixPath(self.name).with_suffix(".ipynb")) if self.script is not None else self.name

    @property
    def metadata(self) -> dict[str, Any]:
        value: dict[str, Any] = self.document["metadata"]
        return value

    @cached_property
    def sha256(self) -> str:
        """Hex sha256 of the file as it stands."""
        return hashlib.sha256(self.raw if self.script is None else self.script).hexdigest()

    @cached_property
    def title(self) -> str:
        """``metadata.title``, else the first Markdown heading, else the file's name; one printable line."""
        candidates = [self.metadata.get("title")]
        for cell in self.document["cells"]:
            if cell.get("cell_type") == "markdown" and (heading := _HEADING.search(_source(cell))):
                candidates.append(heading[1])
                break
        for candidate in candidates:
            if isinstance(candidate, str) and (line := _printable(_TAG.sub("", candidate))):
                return line
        return self.file.stem

    @property
    def language_version(self) -> str | None:
        """``metadata.language_info.version``: the Python that ran the notebook last."""
        return _text(self.metadata, "language_info", "version")

    @property
    def kernel_name(self) -> str | None:
        return _text(self.metadata, "kernelspec", "name")

    @property
    def kernel_title(self) -> str | None:
        """``metadata.kernelspec.display_name``: what Jupyter shows for the kernel."""
        return _text(self.metadata, "kernelspec", "display_name")


def read_notebook(path: Path, *, notebook: str | None = None) -> Notebook:
    """Read the notebook ``path``, or a notebook of the repository ``path``.

    In a repository ``notebook`` names it, relative to ``path``; without that the only ``.ipynb`` file is taken.
    Raises `NotANotebook`, `ForeignLanguage`, `AmbiguousNotebook` and, while looking for the only one,
    `UnusableRepository`.
    """
    if _is_directory(path):
        name = _member(path, notebook) if notebook is not None else _only_notebook(path)
        return _read(path / name, root=path, name=name)
    if notebook is not None:
        raise NotANotebook(
            f"{path} is no directory, so there is no {notebook!r} in it.",
            hint="Name a notebook only together with the directory that holds it.",
        )
    return _read(path, root=None, name=path.name)


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # No permission to look; reading it says so.
        return False


def _member(root: Path, notebook: str) -> str:
    """The normal form of a name that the user gave; it must stay inside the repository."""
    given = root / notebook
    try:
        name = given.resolve().relative_to(root.resolve()).as_posix()
    except (ValueError, OSError, RuntimeError):
        raise NotANotebook(
            f"{notebook!r} is not inside {root}.", hint="Name the notebook relative to the directory."
        ) from None
    # A notebook that is a symbolic link keeps the name that it was asked for by.
    parts = PurePosixPath(notebook).parts
    return name if Path(notebook).is_absolute() or ".." in parts else PurePosixPath(notebook).as_posix()


def _only_notebook(root: Path) -> str:
    found = [each.path for each in repository_files(root) if each.path.endswith(".ipynb")]
    if len(found) == 1:
        return found[0]
    if not found:
        raise AmbiguousNotebook(
            f"{root} holds no notebook (.ipynb) outside of what its ignore files leave out.",
            hint="Give the notebook's own path, or name a percent script with --notebook.",
        )
    shown = (*found[:20], f"… and {len(found) - 20} more") if len(found) > 20 else tuple(found)
    raise AmbiguousNotebook(
        f"{root} holds {len(found)} notebooks and none was named.",
        hint=f"Choose one, for example --notebook {found[0]}.",
        details=shown,
    )


def _read(file: Path, *, root: Path | None, name: str) -> Notebook:
    try:
        if not file.exists():
            raise NotANotebook(f"There is no file {file}.", hint="Check the path.")
        if not file.is_file():
            kind = "a directory" if file.is_dir() else "not a regular file"
            raise NotANotebook(f"{file} is {kind}, not a notebook.", hint=_JSON_NOTEBOOK)
        if reason := unstorable(name):
            raise NotANotebook(f"The notebook has a name that {reason}.", hint="Rename it.")
        data = file.read_bytes()
    except OSError as error:
        raise NotANotebook(
            f"{file} cannot be read: {error.strerror or error}.", hint="Check the path and its permissions."
        ) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotANotebook(
            f"{file} is not UTF-8 text: byte {error.start} is 0x{data[error.start]:02x}.", hint=_JSON_NOTEBOOK
        ) from error
    if file.suffix == ".py":
        document = _from_script(file, text)
        raw = (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()
        notebook = Notebook(file, root, name, document, raw, script=data)
    else:
        notebook = Notebook(file, root, name, _from_json(file, text), data)
    _require_python(notebook)
    return notebook


def _from_json(file: Path, text: str) -> dict[str, Any]:
    try:
        document: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise NotANotebook(
            f"{file} is not JSON: {error.msg}, line {error.lineno}, column {error.colno}.", hint=_JSON_NOTEBOOK
        ) from error
    except RecursionError:
        raise NotANotebook(f"{file} is nested too deeply for a notebook.", hint=_JSON_NOTEBOOK) from None
    except ValueError as error:  # An integer of thousands of digits.
        raise NotANotebook(f"{file} is not usable JSON: {error}.", hint=_JSON_NOTEBOOK) from error
    if not isinstance(document, dict):
        raise NotANotebook(f"{file} is JSON but no notebook: an object was expected.", hint=_JSON_NOTEBOOK)
    major = document.get("nbformat")
    if not isinstance(major, int) or isinstance(major, bool):
        raise NotANotebook(f"{file} is JSON but no notebook: it has no 'nbformat' number.", hint=_JSON_NOTEBOOK)
    if major > 4:
        raise NotANotebook(
            f"{file} is of notebook format {major}; this program knows the formats up to 4.",
            hint="Save it as format 4, or use a newer nb2image.",
        )
    if major < 4:
        document = _upgrade(file, text, major)
    if problem := _problem(document):
        raise NotANotebook(f"{file} is no sound notebook: {_explain(document) or problem}.", hint=_JSON_NOTEBOOK)
    sound: dict[str, Any] = document
    return sound


def _problem(document: dict[str, Any]) -> str:
    """What is wrong with the parts of the document that this program looks at; a full validation takes longer
    than everything else that is done to a notebook, and Jupyter itself opens notebooks that fail it."""
    if not isinstance(document.get("metadata"), dict):
        return "'metadata' is not an object"
    cells = document.get("cells")
    if not isinstance(cells, list):
        return "it has no list of 'cells'"
    for number, cell in enumerate(cells):
        if not isinstance(cell, dict) or not isinstance(cell.get("cell_type"), str):
            return f"cell {number} is not an object with a 'cell_type'"
        source = cell.get("source", "")
        if not isinstance(source, str) and not (
            isinstance(source, list) and all(isinstance(line, str) for line in source)
        ):
            return f"the 'source' of cell {number} is not text"
    return ""


def _explain(document: dict[str, Any]) -> str:
    """The first complaint of nbformat's schema, in its words."""
    from nbformat.validator import iter_validate

    try:
        for error in iter_validate(document):  # type: ignore[no-untyped-call]
            where = "/".join(str(part) for part in error.path)
            return f"{where}: {error.message}"[:300].rstrip(".") if where else error.message[:300].rstrip(".")
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return ""
    return ""


def _upgrade(file: Path, text: str, major: int) -> dict[str, Any]:
    import warnings

    import nbformat

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            upgraded = nbformat.reads(text, as_version=4)  # type: ignore[no-untyped-call]
    except (LookupError, AttributeError, RecursionError, TypeError, ValueError, nbformat.ValidationError) as error:
        raise NotANotebook(
            f"{file} is of notebook format {major} and cannot be upgraded to 4: {type(error).__name__}.",
            hint="Upgrade it with `jupyter nbconvert --to notebook --inplace` or save it anew from Jupyter.",
        ) from error
    document: dict[str, Any] = json.loads(json.dumps(upgraded))
    return document


def _from_script(file: Path, text: str) -> dict[str, Any]:
    """The notebook of a percent script, as jupytext reads it, made independent of chance and of time."""
    if not _CELL_MARKER.search(text):
        raise NotANotebook(
            f"{file} is a Python file without a cell marker ('# %%').",
            hint="Put a line '# %%' above each cell, or give a notebook (.ipynb).",
        )
    import jupytext  # type: ignore[import-untyped]
    from nbformat import ValidationError
    from yaml import YAMLError  # type: ignore[import-untyped]

    try:
        notebook = jupytext.reads(text, fmt="py:percent")
        document: dict[str, Any] = json.loads(json.dumps(notebook))
    except ValidationError as error:
        raise NotANotebook(
            f"{file}: the header of the percent script is no notebook metadata: {error.message}.",
            hint="Correct the commented block between the two '# ---' lines at the top.",
        ) from error
    except YAMLError as error:
        problem = _printable(str(getattr(error, "problem", None) or error))
        raise NotANotebook(
            f"{file}: the header of the percent script is no YAML ({problem}).",
            hint="Correct the commented block between the two '# ---' lines at the top.",
        ) from error
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError, SyntaxError) as error:
        raise NotANotebook(f"{file} cannot be read as a percent script: {error}.", hint=_JSON_NOTEBOOK) from error
    if problem := _problem(document):
        raise NotANotebook(f"{file} cannot be read as a percent script: {problem}.", hint=_JSON_NOTEBOOK)
    # jupytext makes up random cell identifiers; the same script must give the same image.
    for number, cell in enumerate(document["cells"]):
        cell["id"] = f"cell-{number}"
    document["metadata"].setdefault("kernelspec", {"display_name": "Python 3", "language": "python", "name": "python3"})
    return document


def _require_python(notebook: Notebook) -> None:
    language = _text(notebook.metadata, "kernelspec", "language") or _text(notebook.metadata, "language_info", "name")
    if language is None:
        return
    plain = language.strip().lower()
    if not (plain.startswith("python") or plain == "ipython"):
        raise ForeignLanguage(
            f"{notebook.file} is a notebook for {_printable(language) or 'another language'}, not for Python.",
            hint="Only notebooks with a Python kernel can be built.",
        )


def _text(metadata: Mapping[str, Any], group: str, key: str) -> str | None:
    """A string two levels down in the metadata; None where anything on the way is of another type or no text."""
    members = metadata.get(group)
    value = members.get(key) if isinstance(members, dict) else None
    return value if isinstance(value, str) and value and not _UNPRINTABLE.search(value) else None


def _source(cell: Mapping[str, Any]) -> str:
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)


def _printable(text: str) -> str:
    """One line without control characters and lone surrogates, which no terminal and no label can take."""
    return " ".join(_UNPRINTABLE.sub(" ", text).split())[:_TITLE_LENGTH]
