"""Hashed requirements files."""

from __future__ import annotations

from pathlib import Path

import pytest

from nb2image.errors import BrokenLock, LockedTwice, UnhashedPackage, UnsupportedSource
from nb2image.lock.model import Lock, hashes_of
from tests.unit.notebook.making import INDEX, digest, lock_of

HASH = f"--hash={digest('a')}"
COMPILED = f"""\
# This file was compiled.
--index-url {INDEX}
--extra-index-url=https://own.example/simple
--trusted-host own.example
--only-binary :all:
-f ./wheels

Alpha_beta[extra]==1.0 ; python_version >= '3.8' and os_name == "posix" \\
    --hash={digest("a")} \\
    --hash {digest("b")}
    # via -r requirements.in
gamma===2.0rc1 {HASH}  # a remark
delta==3 \\
    {HASH} \\
# a comment ends a continuation
"""


def read(folder: Path, text: str) -> Lock:
    (folder / "requirements.txt").write_text(text)
    return lock_of(folder)


def test_what_pip_compile_and_uv_write_is_read(tmp_path: Path) -> None:
    lock = read(tmp_path, COMPILED)
    alpha, delta, gamma = lock.packages
    assert (alpha.name, str(alpha.version), str(alpha.marker)) == (
        "alpha-beta", "1.0", 'python_version >= "3.8" and os_name == "posix"',
    )  # fmt: skip
    assert hashes_of(alpha) == {digest("a"), digest("b")}
    assert [(str(p.name), str(p.version)) for p in (delta, gamma)] == [("delta", "3"), ("gamma", "2.0rc1")]
    assert hashes_of(delta) == hashes_of(gamma) == {digest("a")}
    assert lock.indexes == (INDEX, "https://own.example/simple")
    assert {p.index for p in lock.packages} == {INDEX}
    assert lock.notes == (
        "requirements.txt: --only-binary is passed over.",
        "requirements.txt: --find-links is passed over.",
    )
    assert (lock.source, lock.python, lock.freshness.fresh) == ("requirements.txt", None, None)


def test_an_included_file_counts(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "base.txt").write_text(f"b==1 {HASH}\n")
    assert [p.name for p in read(tmp_path, f"-r more/base.txt\na==1 {HASH}\n").packages] == ["a", "b"]


def test_variables_in_an_index_stay_as_they_are(tmp_path: Path) -> None:
    assert read(tmp_path, f"-i https://${{USER}}:x@own.example/\na==1 {HASH}").indexes == (
        "https://${USER}:x@own.example/",
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"a>=1 {HASH}", "line 2: a is not pinned to one version"),
        (f"a==1.* {HASH}", "is not pinned"),
        (f"a {HASH}", "is not pinned"),
        (f"a==1,<2 {HASH}", "is not pinned"),
        (f"=1 {HASH}", "'=1' is no requirement"),
        (f"a==1 ; os is nice {HASH}", "is no requirement"),
        ("a==1 --hash=sha256:0", "'sha256:0' is no hash"),
        ("a==1 --hash", "the option --hash has no value"),
        (f"a==1 --frobnicate {HASH}", "the option '--frobnicate' is not known"),
        (f"a==1 '{HASH}", "line 2"),
        ("-r none.txt", "'none.txt' cannot be included"),
        ("-r requirements.txt", "cannot be included"),
    ],
)
def test_a_broken_line_is_refused_with_its_number(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(BrokenLock) as caught:
        read(tmp_path, f"# --hash\n{line}\n")
    assert said in caught.value.message
    assert caught.value.message.startswith("requirements.txt")


def test_requirements_of_which_some_have_no_hash_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UnhashedPackage, match="for b, c"):
        read(tmp_path, f"a==1 {HASH}\nb==1\nc==1\n")


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (f"b @ https://files.example/b-1.0.tar.gz {HASH}", "b"),
        ("-e ./b", "./b"),
        ("--editable=git+https://code.example/b", "git+https://code.example/b"),
        (f"https://files.example/b-1.0-py3-none-any.whl {HASH}", "https://files.example/b-1.0-py3-none-any.whl"),
        ("git+https://code.example/b@c0", "git+https://code.example/b@c0"),
        ("./b", "./b"),
    ],
)
def test_requirements_from_elsewhere_are_named(tmp_path: Path, line: str, named: str) -> None:
    with pytest.raises(UnsupportedSource) as caught:
        read(tmp_path, f"a==1 {HASH}\n{line}\n")
    assert [row.rpartition(": ")[0] for row in caught.value.details] == [named]


def test_a_requirement_that_comes_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LockedTwice):
        read(tmp_path, f"a==1 {HASH}\nA==2 {HASH}\n")
