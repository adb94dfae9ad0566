from __future__ import annotations

import contextlib
import random
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nb2image.abi import elf
from nb2image.abi.elf import Damaged, Machine, SharedObject, read_object
from tests.unit.abi.making import AARCH64, shared_object


def read(data: bytes, step: int = 1 << 20) -> SharedObject | None:
    def pieces() -> Iterator[bytes]:
        for start in range(0, len(data), step):
            yield data[start : start + step]

    return read_object(pieces, len(data))


def test_needs_and_versions_are_read_without_any_section() -> None:
    data = shared_object(
        "libGL.so.1",
        "libc.so.6",
        soname="libx.so.2",
        runpath="$ORIGIN/../x.libs:/opt/lib",
        versions={"libc.so.6": ["GLIBC_2.2.5", "GLIBC_2.38"], "libm.so.6": ["GLIBC_2.29"]},
        weak=["GLIBC_2.38"],
        defines=["X_1", "X_2"],
    )
    assert read(data) == SharedObject(
        Machine(64, "X86_64"),
        "libx.so.2",
        ("libGL.so.1", "libc.so.6"),
        (),
        ("$ORIGIN/../x.libs", "/opt/lib"),
        {"libc.so.6": ("GLIBC_2.2.5",), "libm.so.6": ("GLIBC_2.29",)},
        ("X_1", "X_2"),
    )


def test_an_object_of_another_processor_says_so() -> None:
    found = read(shared_object("libc.so.6", machine=AARCH64))
    assert found is not None
    assert found.machine == Machine(64, "AARCH64")


@pytest.mark.skipif(shutil.which("gcc") is None or shutil.which("readelf") is None, reason="needs gcc and readelf")
def test_what_a_linker_wrote_is_read_as_readelf_reads_it(tmp_path: Path) -> None:
    source, script, out = tmp_path / "a.c", tmp_path / "a.map", tmp_path / "liba.so.1"
    source.write_text('#include <math.h>\n#include <stdio.h>\nvoid f(double x) { printf("%f", exp(x)); }\n')
    script.write_text("A_1 { global: f; local: *; };\n")
    options = ["-shared", "-fPIC", "-Wl,-soname,liba.so.1", "-Wl,-rpath,$ORIGIN/../a.libs"]
    subprocess.run(["gcc", *options, f"-Wl,--version-script={script}", source, "-lm", "-o", out], check=True)
    found = read(out.read_bytes(), step=1000)
    shown = subprocess.run(["readelf", "-dVW", out], capture_output=True, text=True, check=True).stdout
    assert found is not None
    assert list(found.needed) == re.findall(r"\(NEEDED\).*\[(.*)\]", shown)
    assert (found.soname, (*found.rpath, *found.runpath)) == ("liba.so.1", ("$ORIGIN/../a.libs",))
    wanted = re.findall(r"Name: (\S+)\s+Flags: none\s+Version", shown.partition("needs section")[2])
    assert sorted(name for names in found.versions.values() for name in names) == sorted(wanted)
    assert found.defines == ("A_1",)


def test_of_a_large_object_only_the_asked_for_parts_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    data = shared_object("libz.so.1", versions={"libz.so.1": ["Z_1"]}, gap=9 << 20)
    monkeypatch.setattr(elf, "WHOLE", 1 << 16)
    monkeypatch.setattr(elf, "_HEAD", 1 << 12)
    monkeypatch.setattr(elf, "_WINDOW", 1 << 12)
    found = read(data, step=100_000)
    assert found is not None
    assert (found.needed, found.versions) == (("libz.so.1",), {"libz.so.1": ("Z_1",)})


@pytest.mark.parametrize("data", [b"", b"\x7fEL", b"GROUP ( libm.so.6 )", b"PK\3\4" + bytes(99)])
def test_what_is_not_elf_is_nothing(data: bytes) -> None:
    assert read(data) is None


def test_every_truncation_is_damage_or_nothing() -> None:
    data = shared_object("libc.so.6", versions={"libc.so.6": ["GLIBC_2.4"]}, defines=["A"])
    for length in range(4, len(data) - 16):
        with pytest.raises(Damaged):
            read(data[:length])


def test_any_changed_byte_is_read_or_refused_in_short_time() -> None:
    data = shared_object("libc.so.6", soname="a", rpath="/x", versions={"libc.so.6": ["GLIBC_2.4"]}, defines=["A"])
    source = random.Random(4)
    begin = time.process_time()
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] = source.choice((0, 255, source.randrange(256)))
        with contextlib.suppress(Damaged):
            read(bytes(changed))
    assert time.process_time() - begin < 30


def test_tables_that_claim_to_be_endless_end() -> None:
    data = bytearray(shared_object("libc.so.6", versions={"libc.so.6": ["GLIBC_2.4"]}))
    place = data.index((0x6FFFFFFE).to_bytes(8, "little"))
    table = int.from_bytes(data[place + 8 : place + 16], "little")
    data[table + 2 : table + 4] = b"\xff\xff"  # vn_cnt, of a chain that ends after one
    found = read(bytes(data))
    assert found is not None
    assert found.versions == {"libc.so.6": ("GLIBC_2.4",)}


def test_tables_without_measure_are_refused() -> None:
    with pytest.raises(Damaged, match="too many versions"):
        read(shared_object("libc.so.6", versions={"libc.so.6": [f"GLIBC_2.{number}" for number in range(20_000)]}))


def test_a_list_of_folders_may_be_longer_than_any_path() -> None:
    """As in TensorFlow 2.21, whose list repeats itself."""
    folders = [f"$ORIGIN/../nvidia/{number}/lib" for number in range(400)]
    found = read(shared_object("libc.so.6", soname="libx.so.2", runpath=":".join(folders * 3)))
    assert found is not None
    assert found.runpath == tuple(folders)
    with pytest.raises(Damaged, match="a name in it has no end"):
        read(shared_object("libc.so.6", runpath=":".join(folders * 10)))
    with pytest.raises(Damaged, match="a name in it has no end"):
        read(shared_object("libc" * 2000 + ".so.6"))
