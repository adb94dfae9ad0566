"""Wheels become the layers of one environment: the joint, and what happens where two wheels want one path."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from nb2image.cache import Store
from nb2image.environment import Conflict, Environment, EnvironmentLayers, Wheel
from nb2image.errors import BadWheel, NotCached, WheelError
from nb2image.image.model import Layer
from nb2image.progress import Silent
from nb2image.wheels.install import Scheme
from tests.unit.world import Made, wheel

SCHEME = Scheme("/opt/kernel", "3.11")
SITE = "opt/kernel/lib/python3.11/site-packages"


class Room:
    """A store with wheels in it."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder)

    def put(self, made: Made) -> tuple[Wheel, Path]:
        with self.store.writing("wheels") as writing:
            writing.write(made.data)
            path = writing.commit()
        row = Wheel(canonicalize_name(made.name), made.version, made.filename, f"sha256:{made.sha256}", len(made.data))
        return row, path

    def environment(self, *wheels: Made, limit: int = 50) -> Environment:
        return Environment(self.store, SCHEME, [self.put(made)[0] for made in wheels], limit)

    def build(self, *wheels: Made, limit: int = 50, processes: int | None = None) -> EnvironmentLayers:
        arrivals = [(made.filename, self.put(made)[1]) for made in wheels]
        return self.environment(*wheels, limit=limit).build(arrivals, Silent(), processes)


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path / "cache")


def contents(*layers: Layer) -> dict[str, bytes]:
    """Files of layers laid over each other."""
    found = {}
    for layer in layers:
        with layer.open() as stream, tarfile.open(fileobj=stream, mode="r:gz") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isfile() or member.islnk() else None
                if content is not None:
                    found[member.name] = content.read()
    return found


def diff_ids(layers: EnvironmentLayers) -> list[str]:
    return [layer.diff_id for layer in layers.layers]


def packages(*names: str) -> list[Made]:
    return [wheel(name) for name in names]


def test_wheels_may_arrive_in_any_order(room: Room, tmp_path: Path) -> None:
    made = packages(*"abcdefgh")
    one = room.build(*made)
    other = Room(tmp_path / "other").build(*reversed(made))
    assert diff_ids(one) == diff_ids(other)
    assert [group.comment for group in one.groups] == [group.comment for group in other.groups]


def test_processes_write_what_one_process_writes(room: Room, tmp_path: Path) -> None:
    # More than what is written without worker processes.
    made = [wheel(name, files={f"{name}.bin": name.encode() * (9 << 20)}) for name in "ab"]
    made = [Made(m.name, m.version, _stored(m)) for m in made]
    assert sum(len(m.data) for m in made) > 8 << 20
    several = room.build(*made, processes=2)
    one = Room(tmp_path / "other").build(*made, processes=1)
    assert diff_ids(several) == diff_ids(one)


def _stored(made: Made) -> bytes:
    """The wheel with its files stored, so that it is large without being random."""
    import io
    import zipfile

    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(made.data)) as source, zipfile.ZipFile(out, "w") as target:
        for info in source.infolist():
            target.writestr(zipfile.ZipInfo(info.filename), source.read(info))
    return out.getvalue()


def test_a_limit_of_layers_is_kept(room: Room) -> None:
    made = packages(*(f"package-{n}" for n in range(40)))
    for limit in (1, 3, 50):
        layers = room.build(*made, limit=limit)
        assert 1 <= len(layers.layers) <= limit
        assert len(contents(*layers.layers)) == 40 * 6


def test_the_second_build_reads_no_wheel(room: Room) -> None:
    made = packages("a", "b")
    first = room.build(*made)
    assert not first.cached
    room.store.prune(("wheels",))
    environment = Environment(room.store, SCHEME, [_row(m) for m in made], 50)
    again = environment.cached()
    assert again is not None
    assert again.cached
    assert diff_ids(again) == diff_ids(first)
    assert contents(*again.layers) == contents(*first.layers)


def _row(made: Made) -> Wheel:
    return Wheel(canonicalize_name(made.name), made.version, made.filename, f"sha256:{made.sha256}", len(made.data))


def test_a_pruned_layer_is_written_again_from_its_wheels(room: Room) -> None:
    made = packages("a", "b", "c")
    before = contents(*room.build(*made).layers)
    room.store.prune(("layers",))
    layers = room.build(*made).layers
    assert contents(*layers) == before
    for layer in layers:
        file = layer.file()
        assert file is not None
        assert file.stat().st_size == layer.descriptor.size


def test_a_layer_pruned_after_the_build_is_written_again(room: Room) -> None:
    layers = room.build(*packages("a", "b")).layers
    before = contents(*layers)
    room.store.prune(("layers",))
    assert contents(*layers) == before


def test_a_layer_that_cannot_be_written_again_says_why(room: Room) -> None:
    layers = room.build(*packages("a")).layers
    room.store.prune(("layers", "wheels"))
    with pytest.raises(NotCached, match=r"a-1\.0-py3-none-any\.whl is not in the cache any more"):
        layers[0].open()


def test_a_damaged_layer_is_written_again(room: Room) -> None:
    (layer,) = room.build(*packages("a")).layers
    before = contents(layer)
    path = layer.file()
    assert path is not None
    path.chmod(0o644)
    path.write_bytes(bytes(layer.descriptor.size))
    assert contents(layer) == before


def test_damaged_records_are_made_again(room: Room) -> None:
    made = packages("a", "b")
    before = diff_ids(room.build(*made))
    records = [path for path in (room.store.root / "v1" / "records").rglob("*") if path.is_file()]
    assert records
    for path in records:
        path.write_bytes(path.read_bytes()[:-3])
    assert room.environment(*made).cached() is None
    assert diff_ids(room.build(*made)) == before


# -- one path, two wheels --------------------------------------------------------------------------


def sharing(first: bytes, second: bytes) -> tuple[Made, Made]:
    return (
        wheel("one", files={"shared/__init__.py": first, "shared/one.py": b"1"}),
        wheel("two", files={"shared/__init__.py": second, "shared/two.py": b"2"}),
    )


@pytest.mark.parametrize("limit", [1, 50])
def test_equal_files_of_two_wheels_are_no_conflict(room: Room, limit: int) -> None:
    layers = room.build(*sharing(b"same", b"same"), limit=limit)
    assert layers.conflicts == ()
    files = contents(*layers.layers)
    assert {f"{SITE}/shared/{name}" for name in ("__init__.py", "one.py", "two.py")} <= set(files)
    assert files[f"{SITE}/shared/__init__.py"] == b"same"


@pytest.mark.parametrize("limit", [1, 50])
@pytest.mark.parametrize("turned", [False, True])
def test_of_two_different_files_that_of_the_first_name_stays(room: Room, limit: int, turned: bool) -> None:
    made = sharing(b"of one", b"of two")
    layers = room.build(*(reversed(made) if turned else made), limit=limit)
    assert layers.conflicts == (Conflict(f"{SITE}/shared/__init__.py", "one", "two"),)
    assert contents(*layers.layers)[f"{SITE}/shared/__init__.py"] == b"of one"


def test_a_file_that_lost_is_in_no_layer(room: Room) -> None:
    # Large enough for layers of their own.
    big = {name: _stored(wheel(name, files={"same.bin": name.encode() * (5 << 20)})) for name in ("a", "b")}
    layers = room.build(*(Made(name, "1.0", data) for name, data in big.items()), processes=1)
    assert [group.comment for group in layers.groups] == ["a==1.0", "b==1.0"]
    assert [f"{SITE}/same.bin" in contents(layer) for layer in layers.layers] == [True, False]


@pytest.mark.parametrize("limit", [1, 50])
def test_a_file_that_another_wheel_needs_as_a_folder_is_refused(room: Room, limit: int) -> None:
    # The hash of the second name cuts, so that both share a layer only where there may be no more than one.
    one, other = wheel("one", files={"shared": b"x"}), wheel("other", files={"shared/deep/module.py": b"y"})
    for _ in range(2):
        with pytest.raises(WheelError, match=f"one and other cannot be installed together: /{SITE}/shared is a file"):
            room.build(one, other, limit=limit)


def test_conflicts_are_remembered(room: Room) -> None:
    made = sharing(b"of one", b"of two")
    first = room.build(*made)
    again = room.environment(*made).cached()
    assert again is not None
    assert again.conflicts == first.conflicts
    assert diff_ids(again) == diff_ids(first)
    room.store.prune(("layers",))
    assert contents(*room.build(*made).layers) == contents(*first.layers)


def test_without_its_rival_a_wheel_keeps_its_file(room: Room) -> None:
    one, two = sharing(b"of one", b"of two")
    room.build(one, two)
    layers = room.build(two)
    assert layers.conflicts == ()
    assert contents(*layers.layers)[f"{SITE}/shared/__init__.py"] == b"of two"


def test_scripts_of_one_name_conflict_too(room: Room) -> None:
    made = [
        wheel(name, files={f"{name}.py": b"", f"{name}-1.0.data/scripts/tool": f"#!python\n# {name}\n".encode()})
        for name in ("one", "two")
    ]
    layers = room.build(*made)
    assert layers.conflicts == (Conflict("opt/kernel/bin/tool", "one", "two"),)
    assert contents(*layers.layers)["opt/kernel/bin/tool"] == b"#!/opt/kernel/bin/python\n# one\n"


def test_a_bad_wheel_leaves_no_layer_behind(room: Room) -> None:
    bad = wheel("bad", files={"../../../../../escape": b""})
    with pytest.raises(BadWheel, match=r"bad-1\.0"):
        room.build(bad, *packages("good"))
    folder = room.store.root / "v1" / "tmp"
    assert list(folder.iterdir()) == []
