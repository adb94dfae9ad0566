"""What maintainer scripts of added packages would have done, where it can be told without running them.

Alternatives are made from the calls of update-alternatives(1) in ``postinst`` scripts, which packages write out.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from nb2image.bases.debian import state
from nb2image.bases.debian.archive import Deb
from nb2image.system.graphviz import register_plugins
from nb2image.system.overlay import Overlay

__all__ = ["apply", "left_undone"]

_ADMIN = "var/lib/dpkg/alternatives"
_AUTOMATIC = re.compile(r"^# Automatically added by .*?^# End automatically added section$", re.MULTILINE | re.DOTALL)
_HARMLESS = re.compile(
    r"set -e\w*|exit 0|:|#.*|esac|;;|fi|done|(if|case) .*(configure|\$1|abort).*|.*abort-.*\)|configure\)|\*\)|"
    r"ldconfig|echo .*|then|else|exit 1"
)
"""Lines that change nothing on a fresh system."""


@dataclass
class _Group:
    """A link group, as ``/var/lib/dpkg/alternatives`` keeps it: ``choices`` are priority and paths of slaves."""

    link: str
    automatic: bool = True
    slaves: dict[str, str] = field(default_factory=dict)
    choices: dict[str, tuple[int, dict[str, str]]] = field(default_factory=dict)


def apply(tree: Overlay, debs: Sequence[Deb]) -> None:
    """Bring the tree into the state of a configured system, as far as that can be told."""
    groups: dict[str, _Group] = {}
    for deb in debs:
        for words in _installations(_script(deb)):
            _install(tree, groups, words)
    for name, group in sorted(groups.items()):
        _write(tree, name, group)
    register_plugins(tree)
    if any(deb.name == "ca-certificates" for deb in debs):
        state.trust_certificates(tree)


def left_undone(debs: Sequence[Deb]) -> list[str]:
    """Names of packages whose ``postinst`` does more than what is made here."""
    return [deb.name for deb in debs if deb.name != "libgvc6" and _does_more(_script(deb))]


def _script(deb: Deb) -> str:
    return deb.control.get("postinst", b"").decode("utf-8", "replace").replace("\\\n", " ")


def _does_more(script: str) -> bool:
    lines = (line.strip() for line in _AUTOMATIC.sub("", script).splitlines())
    return any(
        line and not _HARMLESS.fullmatch(line) and not ("update-alternatives" in line and "$" not in line)
        for line in lines
    )


def _installations(script: str) -> Iterator[list[str]]:
    """The words after ``--install`` of each call that is written out."""
    for line in script.splitlines():
        if not re.match(r"\s*update-alternatives\s", line) or "$" in line:
            continue
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            continue
        words = [word.rstrip(";") for word in words if word not in {"--quiet", "--force", ";"}]
        if "--install" in words and len(words) >= words.index("--install") + 5:
            yield words[words.index("--install") + 1 :]


def _install(tree: Overlay, groups: dict[str, _Group], words: list[str]) -> None:
    link, name, path, priority = words[:4]
    if not re.fullmatch(r"-?\d+", priority) or "/" in name or tree.merged(path.lstrip("/")) not in tree:
        return
    if name not in groups:
        groups[name] = _read(tree.text(f"{_ADMIN}/{name}")) or _Group(link)
    group = groups[name]
    paths: dict[str, str] = {}
    rest = words[4:]
    while len(rest) >= 4 and rest[0] == "--slave":
        _, slave_link, slave, slave_path = rest[:4]
        rest = rest[4:]
        group.slaves.setdefault(slave, slave_link)
        paths[slave] = slave_path
    group.choices[path] = (int(priority), paths)


def _read(text: str) -> _Group | None:
    """A file of the database, in the format that dpkg's own source describes (``alternative_save``)."""
    lines = text.split("\n")
    if len(lines) < 3:
        return None
    group = _Group(lines[1], lines[0] == "auto")
    position = 2
    while position + 1 < len(lines) and lines[position]:
        group.slaves[lines[position]] = lines[position + 1]
        position += 2
    position += 1
    while position + 1 < len(lines) and lines[position]:
        path, priority = lines[position], lines[position + 1]
        position += 2
        paths = dict(zip(group.slaves, lines[position : position + len(group.slaves)], strict=False))
        group.choices[path] = (int(priority), {slave: own for slave, own in paths.items() if own})
        position += len(group.slaves)
    return group


def _write(tree: Overlay, name: str, group: _Group) -> None:
    slaves = sorted(group.slaves)
    lines = ["auto" if group.automatic else "manual", group.link]
    for slave in slaves:
        lines += [slave, group.slaves[slave]]
    lines.append("")
    for path, (priority, paths) in sorted(group.choices.items()):
        lines += [path, str(priority), *(paths.get(slave, "") for slave in slaves)]
    tree.file(f"{_ADMIN}/{name}", "\n".join([*lines, "", ""]))
    if not group.automatic:
        return
    best = max(sorted(group.choices), key=lambda path: group.choices[path][0])
    _link(tree, name, group.link, best)
    for slave, path in group.choices[best][1].items():
        if tree.merged(path.lstrip("/")) in tree:  # manual pages are left out
            _link(tree, slave, group.slaves[slave], path)


def _link(tree: Overlay, name: str, link: str, path: str) -> None:
    tree.link(f"etc/alternatives/{name}", path)
    tree.link(tree.merged(link.lstrip("/")), f"/etc/alternatives/{name}")
