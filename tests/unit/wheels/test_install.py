from __future__ import annotations

import csv
import hashlib
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from nb2image.errors import BadWheel
from nb2image.layers.entry import Entry
from nb2image.wheels.archive import WheelArchive
from nb2image.wheels.install import Scheme, install
from nb2image.wheels.record import row_of
from tests.unit.wheels.builder import INFO, Part, build_zip, save, wheel_parts

SCHEME = Scheme("/opt/kernel", "3.11")
SITE = "opt/kernel/lib/python3.11/site-packages"
BIN = "opt/kernel/bin"
DATA = "demo-1.0.data"


def installed(
    folder: Path, *extra: Part, scheme: Scheme = SCHEME, record: str | None = None, info: str = INFO
) -> dict[str, tuple[Entry, bytes]]:
    path = save(folder, build_zip(wheel_parts(*extra, record=record, info=info)))
    with WheelArchive(path) as archive:
        result = {}
        for entry in install(archive, scheme, name=canonicalize_name("demo"), version=Version("1.0")):
            assert entry.content is not None
            assert not isinstance(entry.content, tuple)
            assert entry.path not in result
            result[entry.path] = (entry, b"".join(entry.content.chunks()))
        return result


def record_rows(found: dict[str, tuple[Entry, bytes]]) -> list[list[str]]:
    return list(csv.reader(found[f"{SITE}/{INFO}/RECORD"][1].decode().split("\r\n")[:-1]))


def entry_points(text: str) -> Part:
    return Part(f"{INFO}/entry_points.txt", text.encode())


def test_paths_are_relative_to_the_root_and_no_directory_is_given(tmp_path: Path) -> None:
    found = installed(tmp_path, Part("demo/sub/", mode=0o40755, method=0))
    names = ("METADATA", "WHEEL", "RECORD", "INSTALLER", "REQUESTED")
    assert set(found) == {f"{SITE}/demo/__init__.py", *(f"{SITE}/{INFO}/{name}" for name in names)}


def test_the_installer_says_who_it_is_and_the_package_counts_as_requested(tmp_path: Path) -> None:
    found = installed(tmp_path)
    assert found[f"{SITE}/{INFO}/INSTALLER"][1] == b"nb2image\n"
    assert found[f"{SITE}/{INFO}/REQUESTED"][1] == b""


def test_members_keep_their_deflate_streams(tmp_path: Path) -> None:
    entry, _ = installed(tmp_path)[f"{SITE}/demo/__init__.py"]
    assert entry.content is not None
    assert not isinstance(entry.content, tuple)
    assert entry.content.deflated() is not None


@pytest.mark.parametrize(
    ("zip_mode", "mode"),
    [
        (0o100644, 0o644),
        (0o100600, 0o644),
        (0o100755, 0o755),
        (0o100744, 0o755),
        (0o100610, 0o755),
        (0o104755, 0o755),
        (0o755, 0o644),
        (0, 0o644),
    ],
)
def test_only_regular_files_with_an_x_bit_become_executable(tmp_path: Path, zip_mode: int, mode: int) -> None:
    entry, _ = installed(tmp_path, Part("demo/x", b"1", mode=zip_mode))[f"{SITE}/demo/x"]
    assert entry.mode == mode


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("purelib/x/y", f"{SITE}/x/y"),
        ("platlib/x.so", f"{SITE}/x.so"),
        ("headers/x.h", "opt/kernel/include/site/python3.11/demo/x.h"),
        ("data/share/jupyter/x", "opt/kernel/share/jupyter/x"),
        ("scripts/x", f"{BIN}/x"),
    ],
)
def test_data_goes_where_its_category_says(tmp_path: Path, name: str, path: str) -> None:
    assert installed(tmp_path, Part(f"{DATA}/{name}", b"1"))[path][1] == b"1"


def test_record_is_sorted_and_names_data_relative_to_site_packages(tmp_path: Path) -> None:
    found = installed(
        tmp_path,
        Part(f"{DATA}/scripts/run", b"#!python\n"),
        Part(f"{DATA}/data/etc/x", b"1"),
        Part('demo/a, "b"', b"2"),
        record=None,
    )
    rows = record_rows(found)
    assert rows == sorted(rows)
    by_path = {row[0]: row[1:] for row in rows}
    assert by_path["../../../bin/run"] == [*row_of(b"#!/opt/kernel/bin/python\n")]
    assert by_path["../../../etc/x"] == [*row_of(b"1")]
    assert by_path[f"{INFO}/RECORD"] == ["", ""]
    assert by_path[f"{INFO}/INSTALLER"] == [*row_of(b"nb2image\n")]
    assert by_path[f"{INFO}/REQUESTED"] == ["sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU", "0"]


def test_every_row_of_the_new_record_is_true(tmp_path: Path) -> None:
    found = installed(tmp_path, Part(f"{DATA}/scripts/run", b"#!python\n"), entry_points("[gui_scripts]\na=b:c\n"))
    for path, value, size in record_rows(found):
        full = f"{BIN}/{path.removeprefix('../../../bin/')}" if path.startswith("..") else f"{SITE}/{path}"
        if value:
            assert (value, size) == row_of(found[full][1])


def test_a_name_with_a_comma_is_quoted_in_record(tmp_path: Path) -> None:
    name = 'demo/a, "b".txt'
    row = ",".join(('"demo/a, ""b"".txt"', *row_of(b"1")))
    assert f"{row}\r\n".encode() in installed(tmp_path, Part(name, b"1"))[f"{SITE}/{INFO}/RECORD"][1]


@pytest.mark.parametrize("spelling", ["/demo/x", "./demo/x", "demo\\x", ".\\demo\\x"])
def test_a_record_path_in_an_old_spelling_still_holds_the_file(tmp_path: Path, spelling: str) -> None:
    parts = wheel_parts(Part("demo/x", b"1"))
    record = parts[-1].data.decode().replace("demo/x,", f"{spelling},")
    assert installed(tmp_path, Part("demo/x", b"1"), record=record)[f"{SITE}/demo/x"][1] == b"1"
    wrong = record.replace(row_of(b"1")[0], row_of(b"2")[0])
    with pytest.raises(BadWheel, match="another sha256"):
        installed(tmp_path, Part("demo/x", b"1"), record=wrong)


def test_signatures_of_record_need_no_hash(tmp_path: Path) -> None:
    record = wheel_parts()[-1].data.decode() + f"{INFO}/RECORD.jws,,\n"
    found = installed(tmp_path, Part(f"{INFO}/RECORD.jws", b"{}"), Part(f"{INFO}/RECORD.p7s", b"x"), record=record)
    assert f"{SITE}/{INFO}/RECORD.jws" in found
    assert f"{SITE}/{INFO}/RECORD.p7s" in found


@pytest.mark.parametrize("algorithm", ["sha384", "sha512"])
def test_stronger_hashes_are_accepted(tmp_path: Path, algorithm: str) -> None:
    record = wheel_parts(Part("demo/x", b"1"))[-1].data.decode()
    strong = urlsafe_b64encode(hashlib.new(algorithm, b"1").digest()).decode()
    record = record.replace(row_of(b"1")[0], f"{algorithm}={strong}")
    assert installed(tmp_path, Part("demo/x", b"1"), record=record)[f"{SITE}/demo/x"][1] == b"1"


def test_an_unnormalised_dist_info_folder_is_accepted(tmp_path: Path) -> None:
    path = save(tmp_path, build_zip(wheel_parts(info="DeMo-1.0.0.dist-info")))
    with WheelArchive(path) as archive:
        paths = [entry.path for entry in install(archive, SCHEME, name=canonicalize_name("demo"), version=Version("1"))]
    assert f"{SITE}/DeMo-1.0.0.dist-info/INSTALLER" in paths


def test_a_console_script_calls_its_function(tmp_path: Path) -> None:
    text = "[console_scripts]\nrun = demo.cli:App.main [extra]\n"
    entry, script = installed(tmp_path, entry_points(text))[f"{BIN}/run"]
    assert entry.mode == 0o755
    assert script == (
        b"#!/opt/kernel/bin/python\n"
        b"import sys\n"
        b"from demo.cli import App\n"
        b"if __name__ == '__main__':\n"
        b"    sys.argv[0] = sys.argv[0].removesuffix('.exe')\n"
        b"    sys.exit(App.main())\n"
    )


def test_a_graphical_script_wins_over_a_console_script_of_its_name(tmp_path: Path) -> None:
    text = "[console_scripts]\nrun = demo:console\n[gui_scripts]\nrun = demo:window\n[other]\nrun = demo:other\n"
    assert b"window" in installed(tmp_path, entry_points(text))[f"{BIN}/run"][1]


@pytest.mark.parametrize("prefix", ["/opt/with space", "/opt/" + "x" * 120])
def test_an_interpreter_that_no_shebang_can_hold_is_started_by_the_shell(tmp_path: Path, prefix: str) -> None:
    found = installed(tmp_path, entry_points("[console_scripts]\nrun = a:b\n"), scheme=Scheme(prefix, "3.11"))
    quoted = f'"{prefix}/bin/python"' if " " in prefix else f"{prefix}/bin/python"
    script = found[f"{prefix[1:]}/bin/run"][1].decode()
    assert script.startswith(f"#!/bin/sh\n'''exec' {quoted} \"$0\" \"$@\"\n' '''\nimport sys\n")


def test_the_longest_shebang_has_127_bytes(tmp_path: Path) -> None:
    prefix = "/" + "x" * (127 - len("#!" + "/" + "/bin/python" + "\n"))
    for longer, first in ((0, f"#!{prefix}/bin/python\n"), (1, "#!/bin/sh\n")):
        scheme = Scheme(prefix + "x" * longer, "3.11")
        found = installed(tmp_path, entry_points("[console_scripts]\nrun = a:b\n"), scheme=scheme)
        assert found[f"{scheme.prefix[1:]}/bin/run"][1].decode().startswith(first)


def test_scripts_that_entry_points_replace_are_not_installed(tmp_path: Path) -> None:
    names = ("run", "run.exe", "RUN-script.py", "run-script.py", "run.pya", "other")
    parts = [Part(f"{DATA}/scripts/{name}", b"old") for name in names]
    found = installed(tmp_path, *parts, entry_points("[console_scripts]\nrun = a:b\n"))
    assert {path for path in found if path.startswith(BIN)} == {f"{BIN}/{n}" for n in ("run", "RUN-script.py", "other")}
    assert b"old" not in found[f"{BIN}/run"][1]


def test_scripts_of_pip_are_named_after_the_target(tmp_path: Path) -> None:
    names = ("pip", "pip3", "pip3.9", "pipx", "easy_install", "easy_install-3.9")
    text = "[console_scripts]\n" + "".join(f"{name} = a:b\n" for name in names)
    found = installed(tmp_path, entry_points(text))
    scripts = {path.removeprefix(f"{BIN}/") for path in found if path.startswith(BIN)}
    assert scripts == {"pip", "pip3", "pip3.11", "pipx", "easy_install", "easy_install-3.11"}


def test_names_that_only_begin_like_an_interpreter_are_scripts(tmp_path: Path) -> None:
    names = ("python-argcomplete-check-easy-install-script", "pythonic", "python_config", "pypy-tool")
    text = "[console_scripts]\n" + "".join(f"{name} = a:b\n" for name in names)
    found = installed(tmp_path, entry_points(text))
    assert {f"{BIN}/{name}" for name in names} <= set(found)


def test_what_pip_writes_last_stays(tmp_path: Path) -> None:
    found = installed(
        tmp_path,
        Part(f"{DATA}/purelib/demo/x", b"data"),
        Part("demo/x", b"root"),
        Part(f"{DATA}/data/bin/run", b"data"),
        entry_points("[console_scripts]\nrun = a:b\n"),
    )
    assert found[f"{SITE}/demo/x"][1] == b"data"
    assert b"import sys" in found[f"{BIN}/run"][1]
