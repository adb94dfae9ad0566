"""``--gpu``, from the command line to the image's documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from nb2image.cli import cli
from nb2image.cli.report import _print_considered
from nb2image.engines import nvidia
from nb2image.errors import NoCuda
from nb2image.image.layout import write_layout
from nb2image.layers.entry import HardLink, Link
from nb2image.progress import Silent
from nb2image.target.match import Row
from tests.unit.abi.making import shared_object
from tests.unit.bases.test_facts import CUDA_11, DEBIAN
from tests.unit.image.making import files_of, image_of
from tests.unit.index.plugin import machine, server
from tests.unit.world import World, wheel, world

__all__ = ["machine", "server", "world"]

TORCH = wheel("torch", "1.9.1+cu111")
TENSORFLOW = wheel("tensorflow", "2.6.0")
PLAIN = wheel("alpha")


def config_of(world: World, source: Path, **changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = world.build(source, **changes).image.config.document["config"]
    return document


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def cuda_base(world: World, *env: str) -> Path:
    """A base with Python 3.11, CUDA 11.2 and cuDNN 8.1."""
    path = world.folder / "cuda"
    contents: dict[str, bytes | Link | HardLink] = {**DEBIAN, **CUDA_11}
    image = image_of(files_of(contents), Env=["PATH=/usr/local/bin:/usr/bin", *env])
    write_layout(image, ["cuda:1"], path, Silent())
    return path


def test_an_image_for_gpus_states_what_it_needs(world: World) -> None:
    config = config_of(world, world.locked(TORCH), gpu=True)
    assert {row for row in config["Env"] if row.startswith("NVIDIA_")} == {
        "NVIDIA_VISIBLE_DEVICES=all",
        "NVIDIA_DRIVER_CAPABILITIES=compute,utility",
        "NVIDIA_REQUIRE_CUDA=cuda>=11.0",
    }
    assert config["Labels"]["io.nb2image.cuda"] == "11.1"


def test_without_gpu_an_image_states_nothing_although_its_wheels_bring_cuda(world: World) -> None:
    config = config_of(world, world.locked(TORCH))
    assert [row for row in config["Env"] if row.startswith("NVIDIA_")] == []
    assert "io.nb2image.cuda" not in config["Labels"]


def test_the_users_variables_win(world: World) -> None:
    config = config_of(world, world.locked(TORCH), gpu=True, env={"NVIDIA_VISIBLE_DEVICES": "0"})
    assert "NVIDIA_VISIBLE_DEVICES=0" in config["Env"]


def test_what_a_base_requires_of_the_driver_is_kept(world: World) -> None:
    world.base = cuda_base(world, "NVIDIA_REQUIRE_CUDA=cuda>=11.2 driver>=460")
    config = config_of(world, world.locked(TENSORFLOW), gpu=True)
    assert "NVIDIA_REQUIRE_CUDA=cuda>=11.2 driver>=460" in config["Env"]
    assert config["Labels"]["io.nb2image.cuda"] == "11.2"


def test_gpu_is_refused_where_nothing_uses_cuda(world: World) -> None:
    with pytest.raises(NoCuda, match="no locked package uses it") as caught:
        world.build(world.locked(PLAIN), gpu=True)
    assert "--env NVIDIA_VISIBLE_DEVICES=all" in caught.value.hint


def test_gpu_is_refused_where_the_base_lacks_libraries(world: World) -> None:
    result = call("build", world.locked(TENSORFLOW), "--gpu", "--base", world.base, "--progress", "none")
    assert result.exit_code != 0
    assert isinstance(result.exception, NoCuda)
    assert "tensorflow 2.6.0 loads CUDA 11.2 and cuDNN 8.1 from the base" in result.exception.message
    assert result.exception.message.endswith(f"and the base {world.base} has none.")
    assert "docker.io/nvidia/cuda:11.8.0-cudnn8-runtime-ubuntu22.04 with Python 3.11 added" in result.exception.hint


def test_gpu_is_refused_on_a_platform_that_the_builds_with_cuda_are_not_for(world: World) -> None:
    locked = world.locked(wheel("torch", "1.9.1"))
    result = call("plan", locked, "--gpu", "--platform", "linux/arm64", "--progress", "none")
    assert isinstance(result.exception, NoCuda)
    assert result.exception.message.endswith(
        "on linux/arm64 no locked package uses it: torch 1.9.1 brings CUDA 10.2 on linux/amd64 only."
    )
    assert result.exception.hint.startswith("Build for linux/amd64, or lock builds that have CUDA for linux/arm64")


def test_a_plan_says_what_a_gpu_would_take(world: World) -> None:
    page = call("plan", world.locked(TENSORFLOW), "--base", world.base, "--progress", "none").stdout
    assert (
        "cuda      a GPU needs CUDA 11.2 and cuDNN 8.1 in the base, and NVIDIA driver 450.80.02 or newer on the "
        in page
    )
    assert "  why     tensorflow 2.6.0 loads CUDA 11.2 and cuDNN 8.1 from the base\n" in page
    assert "  gpu     tensorflow 2.6.0 will compute on the CPU in this image" in page


def test_the_plan_of_other_notebooks_says_that_nothing_uses_cuda(world: World) -> None:
    page = call("plan", world.locked(PLAIN), "--base", world.base, "--progress", "none").stdout
    assert "cuda      nothing that is locked uses it\n" in page


def test_a_plan_as_document_has_the_evidence(world: World) -> None:
    result = call("plan", world.locked(TORCH), "--base", world.base, "--gpu", "--json", "--progress", "none")
    cuda = json.loads(result.stdout)["cuda"]
    assert (cuda["need"], cuda["required"], cuda["version"], cuda["driver"]) == ("driver", True, "11.1", "450.80.02")
    assert cuda["evidence"][0]["package"] == "torch 1.9.1+cu111"
    assert cuda["evidence"][0]["source"].startswith("PyTorch")


@pytest.mark.parametrize(("driver", "warned"), [("440.33", True), ("450.80.02", False), (None, False)])
def test_a_driver_that_is_too_old_is_a_warning(
    world: World, monkeypatch: pytest.MonkeyPatch, driver: str | None, warned: bool
) -> None:
    monkeypatch.setattr(nvidia, "local_driver", lambda: driver)
    result = call("plan", world.locked(TORCH), "--base", world.base, "--gpu", "--progress", "plain")
    assert ("NVIDIA driver 440.33 is too old for the image, which needs 450.80.02" in result.stderr) == warned


# -- what the files of wheels tell ----------------------------------------------------------------------------------

KERNELS = wheel("kernels", files={"kernels/_c.so": shared_object("libcudart.so.12", "libcudnn.so.9")})
DRIVEN = wheel("driven", files={"driven/_c.so": shared_object("libcuda.so.1")})
RUNTIME = wheel("onnxruntime-gpu", "1.20.1", files={"onnxruntime/_c.so": shared_object("libcublas.so.13")})


def warned(world: World, source: Path) -> str:
    return call("build", source, "--base", world.base, "-o", world.folder / "out", "--progress", "plain").stderr


def test_a_build_says_that_the_files_of_an_unknown_package_need_cuda(world: World) -> None:
    told = warned(world, world.locked(KERNELS))
    assert "By its files, kernels 1.0 needs CUDA 12 and cuDNN 9 (libcudart.so.12, libcudnn.so.9), and neither" in told
    assert "docker.io/nvidia/cuda:12.4.1-cudnn-runtime-ubuntu22.04 with Python 3.11 added" in told
    assert "Debian" not in told


def test_after_a_build_a_plan_says_it_too(world: World) -> None:
    source = world.locked(KERNELS, DRIVEN)
    world.build(source)
    page = call("plan", source, "--base", world.base, "--progress", "none").stdout
    assert "cuda      no rule knows a locked package that uses it, but\n" in page
    sonames = "libcudart.so.12, libcudnn.so.9"
    assert f"  files   kernels 1.0 needs CUDA 12 and cuDNN 9 ({sonames}); neither wheels nor base have it\n" in page
    assert "  files   driven 1.0 needs libcuda.so.1 of NVIDIA's driver\n" in page
    assert "all shared libraries that the wheels need are there but those of CUDA" in page
    document = json.loads(call("plan", source, "--base", world.base, "--json", "--progress", "none").stdout)
    assert document["cuda"]["files"]["lacks"][0]["cuda"] == "12"
    assert document["cuda"]["files"]["driver"] == [{"package": "driven 1.0", "sonames": ["libcuda.so.1"]}]


def test_files_that_contradict_the_rules_are_told(world: World) -> None:
    told = warned(world, world.locked(RUNTIME))
    assert "needs CUDA 13 (libcublas.so.13), although the rule for it says CUDA 12.0, and neither" in told


def test_files_that_say_what_the_rules_do_are_no_second_warning(world: World) -> None:
    kernels = wheel("cupy-cuda12x", "13.6.0", files={"cupy/_c.so": shared_object("libcublas.so.12")})
    told = warned(world, world.locked(kernels))
    assert "needs CUDA 12 (libcublas.so.12), as the rule for it says, and neither" in told
    assert "warning: By its files" not in told


def test_with_gpu_files_that_need_cuda_which_nothing_has_are_refused(world: World) -> None:
    with pytest.raises(
        NoCuda, match=r"by its files, kernels 1.0 needs CUDA 12 and cuDNN 9 .*, and neither a wheel nor"
    ):
        world.build(world.locked(KERNELS, TORCH), gpu=True)


# -- the table of bases -------------------------------------------------------------------------------------------

ROWS = (
    Row("bookworm", "Python 3.11, glibc 2.36", 3, 3, True, "chosen", ("all 3 packages have wheels for it",)),
    Row("old[1]", "Python 3.11, glibc 2.17", 2, 3, False, "a 1.0: only a source distribution", (), ("x",), "a"),
    *(Row(f"other-{n}", "Python 3.9", 0, 0, False, "Python 3.9, and the lock asks for 3.11") for n in range(10)),
)


def test_bases_are_a_table_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setenv("TERM", "xterm")
    _print_considered(ROWS, verbose=False)
    lines = [line.split() for line in click.unstyle(capsys.readouterr().out).splitlines() if line.strip()]
    assert lines[0] == ["base", "what", "it", "is", "packages", "why,", "or", "why", "not"]
    assert lines[2][:1] == ["bookworm"]
    assert lines[3][0] == "old[1]"
    assert "2 of 3" in " ".join(lines[3])
    assert " ".join(lines[-1]) == "not 3 more, which -v shows"


def test_elsewhere_bases_are_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    _print_considered(ROWS, verbose=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "  not     old[1] (Python 3.11, glibc 2.17): a 1.0: only a source distribution"
    assert len(lines) == 11
