"""What `bases probe` found, as people read it in a terminal of 80 columns."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator

import click

from nb2image.bases.probe import Probe, Python
from nb2image.inspection.words import printable
from nb2image.sizes import shown

__all__ = ["print_probe"]

_NAME = 14


def print_probe(found: Probe, *, packages: bool) -> None:
    """The facts, one a line; with ``packages`` the Python packages, too."""
    for name, text in _rows(found):
        click.echo(f"{click.style(f'{name:<{_NAME}}', bold=True)}{printable(text)}".rstrip())
    if not packages:
        return
    groups = [*((python.path, python.distributions) for python in found.pythons), ("of no Python", found.elsewhere)]
    for title, distributions in groups:
        if distributions:
            click.echo()
            click.echo(click.style(f"packages of {printable(title)}", bold=True))
            for each in distributions:
                click.echo(printable(f"  {each.name} {each.version}  {each.folder}"))


def _rows(found: Probe) -> Iterator[tuple[str, str]]:
    yield "platform", str(found.platform)
    yield "size", f"{shown(found.size)} stored in {_count(found.layers, 'layer')}, {shown(found.files)} of files"
    yield "system", found.distribution.title if found.distribution else "none that os-release tells"
    yield "C library", _libc(found)
    yield "libraries", _libraries(found)
    for each in found.databases:
        count = f"{each.packages} of {each.kind}" if each.packages is not None else f"a database of {each.kind}"
        yield "packages", count
    if not found.pythons:
        yield "Python", "none: this image cannot be a base"
    for python in found.pythons:
        yield "Python", _python(found, python)
        if python.site_packages:
            yield "", f"pip installs into {python.site_packages}{_managed(python)}"
        for folder, number in Counter(each.folder for each in python.distributions).items():
            yield "", f"{_count(number, 'package')} in {folder}"
    for folder, number in Counter(each.folder for each in found.elsewhere).items():
        yield "also", f"{_count(number, 'Python package')} in {folder}"
    yield "CUDA", _cuda(found)
    if found.cuda.libraries:
        yield "", "libraries: " + ", ".join(path.rpartition("/")[2] for path in found.cuda.libraries)
    yield "user", found.user or "root"
    if found.entrypoint:
        yield "entrypoint", shlex.join(found.entrypoint)
    if found.command:
        yield "command", shlex.join(found.command)
    if found.folder:
        yield "folder", found.folder
    for name, value in found.env.items():
        yield "environment", f"{name}={value}"


def _libc(found: Probe) -> str:
    if found.libc is None:
        return "none found"
    version = f" {found.libc.version}" if found.libc.version else ""
    note = "; wheels for manylinux do not install on it" if found.libc.name == "musl" else ""
    return f"{found.libc.name}{version}{note}"


def _libraries(found: Probe) -> str:
    number = len(found.libraries.sonames)
    versions = list(found.libraries.versions.values())
    lacking = [] if "GLIBCXX" in found.libraries.versions else ["no libstdc++"]
    return ", ".join([f"{number:,} that the loader finds", *versions, *lacking])


def _python(found: Probe, python: Python) -> str:
    if python.problem is not None:
        return f"{python.path}, not usable: {python.problem}"
    own = "; notebooks would run on this one" if python is found.python and len(found.pythons) > 1 else ""
    pip = f"pip {python.pip}" if python.pip else "no pip"
    return f"{python.version} at {python.path}, {pip}{own}"


def _managed(python: Python) -> str:
    return ", which its distribution forbids (EXTERNALLY-MANAGED)" if python.externally_managed else ""


def _cuda(found: Probe) -> str:
    cuda = found.cuda
    if not (cuda.version or cuda.cudnn or cuda.libraries):
        return "none outside of Python packages"
    parts = [f"CUDA {cuda.version}" if cuda.version else "", f"cuDNN {cuda.cudnn}" if cuda.cudnn else ""]
    parts.append(f"needs a driver for {cuda.driver}" if cuda.driver else "")
    return ", ".join(part for part in parts if part) or "libraries without a version"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
