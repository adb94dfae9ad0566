"""What the runtime puts into an image, unpacked from a real layer where a file system can judge."""

from __future__ import annotations

import io
import json
import stat
import subprocess
import sys
import tarfile
from pathlib import Path, PurePosixPath

import pytest
from packaging.version import Version

from nb2image.layers.entry import BytesContent, Entry, HardLink, Link
from nb2image.layers.write import write_layer
from nb2image.runtime import KERNEL, RUNNER
from nb2image.runtime.entries import (
    Mode,
    environment_entries,
    execution,
    kernel_entries,
    runtime_entries,
    work_entries,
)
from nb2image.target.model import Platform, Target

MODES: tuple[Mode, ...] = ("jupyter", "batch")


def target(python: str = "3.11.2") -> Target:
    version = Version(python)
    minor = f"{version.major}.{version.minor}"
    return Target(
        platform=Platform(),
        python=version,
        interpreter=PurePosixPath(f"/usr/bin/python{minor}"),
        site_packages=PurePosixPath("/usr/lib/python3/dist-packages"),
        glibc=Version("2.36"),
    )


def unpacked(entries: tuple[Entry, ...], root: Path) -> Path:
    data = io.BytesIO()
    write_layer(entries, data.write)
    data.seek(0)
    with tarfile.open(fileobj=data, mode="r:gz") as archive:
        archive.extractall(root)
    return root


def json_of(entries: tuple[Entry, ...], path: str) -> dict[str, object]:
    content = next(entry.content for entry in entries if entry.path == path)
    assert isinstance(content, BytesContent)
    document: dict[str, object] = json.loads(content.data)
    return document


def spec(
    kernel_name: str | None = None, *, locked_ipykernel: bool = False, python: str = "3.11.2"
) -> dict[str, object]:
    entries = kernel_entries(
        target(python),
        notebook_name="a/report.ipynb",
        kernel_name=kernel_name,
        display_name=None,
        locked_ipykernel=locked_ipykernel,
    )
    return json_of(entries, "opt/nb2image/jupyter/kernels/python3/kernel.json")


def kernel_names(kernel_name: str | None) -> set[str]:
    entries = kernel_entries(
        target(), notebook_name="a.ipynb", kernel_name=kernel_name, display_name="Mine", locked_ipykernel=True
    )
    return {entry.path.split("/")[-2] for entry in entries}


@pytest.mark.parametrize("mode", MODES)
def test_the_entry_point_starts_from_the_unpacked_folder_without_any_installed_package(
    mode: Mode, tmp_path: Path
) -> None:
    root = unpacked(runtime_entries(mode), tmp_path)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _IMPORT.format(library=root / "opt/nb2image/lib", mode=mode)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(root / f"opt/nb2image/lib/nb2image/runtime/{mode}.py")


_IMPORT = """
import importlib, sys
sys.path.insert(0, "{library}")
print(importlib.import_module("nb2image.runtime.{mode}").__file__)
"""


@pytest.mark.parametrize("mode", MODES)
def test_any_user_of_group_0_may_write_home_work_and_output(mode: Mode) -> None:
    folders = {entry.path: entry for entry in runtime_entries(mode) if entry.content is None}
    for path in ("home/notebook", "work", "output"):
        assert (folders[path].mode, folders[path].uid, folders[path].gid) == (0o775, 0, 0)


def test_everything_else_of_the_runtime_stays_below_its_own_folder() -> None:
    files = [entry.path for entry in runtime_entries("jupyter") if entry.content is not None]
    assert files
    assert all(path.startswith("opt/nb2image/") for path in files)


def test_the_server_takes_browser_extensions_from_the_lock_and_asks_nobody_for_news() -> None:
    config = json_of(runtime_entries("jupyter"), "opt/nb2image/jupyter/config/jupyter_server_config.json")
    lab = config["LabApp"]
    assert isinstance(lab, dict)
    assert lab["extra_labextensions_path"] == ["/opt/kernel/share/jupyter/labextensions"]
    assert lab["news_url"] is None
    assert lab["extension_manager"] == "readonly"


def test_a_locked_ipykernel_is_started_directly() -> None:
    argv = spec(locked_ipykernel=True)["argv"]
    assert argv == [
        "/opt/kernel/bin/python",
        "-Xfrozen_modules=off",
        "-m",
        "ipykernel_launcher",
        "-f",
        "{connection_file}",
    ]


def test_without_a_locked_ipykernel_the_launcher_gets_the_support_folder() -> None:
    launcher = "/opt/nb2image/lib/nb2image/runtime/kernel.py"
    assert spec(python="3.9.2")["argv"] == [
        "/opt/kernel/bin/python",
        launcher,
        "/opt/support/lib/python3.9/site-packages",
        "-f",
        "{connection_file}",
    ]
    assert launcher.lstrip("/") in {entry.path for entry in runtime_entries("batch")}


def test_commands_in_cells_are_those_of_the_locked_environment() -> None:
    assert spec()["env"] == {"PATH": "/opt/kernel/bin:${PATH}", "PYTHONNOUSERSITE": "1", "VIRTUAL_ENV": "/opt/kernel"}


def test_a_kernel_without_a_display_name_is_called_after_the_notebook() -> None:
    assert spec()["display_name"] == "Python 3.11 (report)"


def test_the_kernel_is_found_under_the_notebooks_own_name_in_lower_case() -> None:
    assert kernel_names("My-Env_2.0") == {"python3", "my-env_2.0"}


@pytest.mark.parametrize("name", [None, "", "..", "a/b", "../../etc", "my env", "python3", "Python3", "näme"])
def test_a_kernel_name_that_jupyter_would_refuse_is_passed_over(name: str | None) -> None:
    assert kernel_names(name) == {"python3"}


@pytest.mark.parametrize("prefix", [KERNEL, RUNNER])
def test_a_real_python_takes_the_prefix_for_a_virtual_environment(prefix: str, tmp_path: Path) -> None:
    here = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    version = ".".join(map(str, sys.version_info[:3]))
    this = Target(Platform(), Version(version), PurePosixPath(here), PurePosixPath("/unused"), None)
    environment = unpacked(environment_entries(prefix, this), tmp_path) / prefix.lstrip("/")
    for name in ("python", "python3", f"python3.{sys.version_info.minor}"):
        done = subprocess.run(
            [environment / "bin" / name, "-c", "import sys; print(sys.prefix, sys.base_prefix); print(*sys.path)"],
            capture_output=True,
            text=True,
            check=True,
            env={},
        )
        assert done.stdout.splitlines()[0] == f"{environment} {sys.base_prefix}"
        assert str(environment / f"lib/python3.{sys.version_info.minor}/site-packages") in done.stdout
        assert done.stdout.count("site-packages") == 1


def test_the_work_folder_and_its_seed_share_their_files(tmp_path: Path) -> None:
    source = tmp_path / "b.sh"
    source.write_text("#!/bin/sh\n")
    root = unpacked(work_entries([("a.ipynb", b"{}", False), ("bin/b.sh", source, True)]), tmp_path / "root")
    assert (root / "work/a.ipynb").samefile(root / "opt/nb2image/source/a.ipynb")
    assert (root / "work/bin/b.sh").read_text() == "#!/bin/sh\n"
    assert stat.S_IMODE((root / "work/bin/b.sh").stat().st_mode) == 0o775
    assert stat.S_IMODE((root / "work/a.ipynb").stat().st_mode) == 0o664
    assert stat.S_IMODE((root / "work/bin").stat().st_mode) == 0o775


def test_a_link_of_a_repository_stays_a_link_in_both_places() -> None:
    entries = {
        entry.path: entry.content for entry in work_entries([("data/x", Link("../y"), False), ("y", b"", False)])
    }
    assert entries["work/data/x"] == entries["opt/nb2image/source/data/x"] == Link("../y")
    assert entries["work/y"] == HardLink("opt/nb2image/source/y")


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "a//b", "", "a/.wh.b", ".wh..wh..opq"])
def test_a_path_that_leaves_the_work_folder_or_marks_a_deletion_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="cannot be a file of the work folder"):
        work_entries([(path, b"", False)])


def test_the_image_runs_its_own_notebook_as_a_numeric_user_of_group_0() -> None:
    config = execution("batch", "report.ipynb")
    assert config["User"] == "1001:0"
    assert config["WorkingDir"] == "/work"
    assert config["Entrypoint"] == ["/opt/runner/bin/python", "-I", "/opt/nb2image/lib", "batch", "report.ipynb"]
    assert config["Env"]["PYTHONNOUSERSITE"] == "1"


def test_what_a_base_set_as_its_command_is_removed() -> None:
    for mode in MODES:
        assert execution(mode, "a.ipynb")["Cmd"] is None


def test_only_the_jupyter_image_exposes_a_port() -> None:
    assert execution("jupyter", "a.ipynb")["ExposedPorts"] == {"8888/tcp": {}}
    assert execution("batch", "a.ipynb")["ExposedPorts"] is None


def test_the_locked_environment_comes_first_on_the_path_and_the_bases_own_last() -> None:
    path = execution("batch", "a.ipynb", path="/usr/local/cuda/bin:/bin")["Env"]["PATH"]
    assert path == "/opt/kernel/bin:/opt/runner/bin:/usr/local/cuda/bin:/bin"
