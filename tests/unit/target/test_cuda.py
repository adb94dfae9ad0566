"""What stacks need of CUDA, by the rules that ship with nb2image."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from nb2image import images
from nb2image.images import cuda_rules
from nb2image.target.cuda import Need, advice, cuda_need, lacking, outlook, parse_rules, too_new
from nb2image.target.model import Cuda


def need(text: str, machine: str = "x86_64") -> Need:
    """Of packages given as ``name==version name==version``."""
    pairs = (item.partition("==") for item in text.split())
    return cuda_need([(name, Version(version)) for name, _, version in pairs], machine, cuda_rules())


def cuda_document() -> dict[str, list[dict[str, Any]]]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    found: dict[str, list[dict[str, Any]]] = tomllib.loads((Path(images.__file__).parent / "cuda.toml").read_text())
    return found


def cuda(version: str, cudnn: str | None = None, *, libraries: bool = True) -> Cuda:
    return Cuda(Version(version), Version(cudnn) if cudnn else None, libraries)


@pytest.mark.parametrize(
    ("locked", "version", "driver", "evidence"),
    [
        ("torch==1.0.1", "9.0", "384.81", "torch 1.0.1 brings CUDA 9.0"),
        ("torch==1.4.0", "10.1", "418.39", "torch 1.4.0 brings CUDA 10.1"),
        ("torch==1.9.1", "10.2", "440.33", "torch 1.9.1 brings CUDA 10.2"),
        ("torch==1.12.1", "10.2", "440.33", "torch 1.12.1 brings CUDA 10.2"),
        ("torch==1.9.1+cu111", "11.1", "450.80.02", "torch 1.9.1+cu111 brings CUDA 11.1"),
        ("torch==1.7.1+cu110", "11.0", "450.36.06", "torch 1.7.1+cu110 brings CUDA 11.0"),
        ("torch==1.5.0+cu92", "9.2", "396.26", "torch 1.5.0+cu92 brings CUDA 9.2"),
        ("torch==2.1.2+cu118", "11.8", "450.80.02", "torch 2.1.2+cu118 brings CUDA 11.8"),
        ("torch-scatter==2.1.2+pt21cu121", "12.1", "525.60.13", "torch-scatter 2.1.2+pt21cu121 brings CUDA 12.1"),
        (
            "torch==1.13.1 nvidia-cublas-cu11==11.10.3.66 nvidia-cuda-runtime-cu11==11.7.99",
            "11.7",
            "450.80.02",
            "nvidia-cuda-runtime-cu11 11.7.99 brings CUDA 11.7",
        ),
        (
            "torch==2.4.0 nvidia-nccl-cu12==2.20.5 nvidia-cuda-runtime-cu12==12.1.105",
            "12.1",
            "525.60.13",
            "nvidia-cuda-runtime-cu12 12.1.105 brings CUDA 12.1",
        ),
        (
            "torch==2.11.0 nvidia-cuda-runtime==13.0.96 nvidia-cudnn-cu13==9.15.1.9",
            "13.0",
            "580.65.06",
            "nvidia-cuda-runtime 13.0.96 brings CUDA 13.0",
        ),
        ("xgboost==2.1.1 nvidia-nccl-cu12==2.22.3", "12", "525.60.13", "nvidia-nccl-cu12 2.22.3 brings CUDA 12"),
        (
            "tensorflow==2.16.1 nvidia-cuda-runtime-cu12==12.3.101",
            "12.3",
            "525.60.13",
            "nvidia-cuda-runtime-cu12 12.3.101 brings CUDA 12.3",
        ),
        (
            "cupy-cuda12x==14.0.0 nvidia-cuda-nvrtc-cu12==12.9.86",
            "12",
            "525.60.13",
            "nvidia-cuda-nvrtc-cu12 12.9.86 brings CUDA 12",
        ),
        (
            "onnxruntime-gpu==1.31.1 nvidia-cuda-runtime==13.2.51 nvidia-cudnn-cu13==9.20.0.1",
            "13.2",
            "580.65.06",
            "nvidia-cuda-runtime 13.2.51 brings CUDA 13.2",
        ),
        (
            "jax-cuda12-plugin==0.4.35 nvidia-cuda-runtime-cu12==12.6.77",
            "12.6",
            "525.60.13",
            "nvidia-cuda-runtime-cu12 12.6.77 brings CUDA 12.6",
        ),
    ],
)
def test_wheels_that_bring_cuda_need_a_driver(locked: str, version: str, driver: str, evidence: str) -> None:
    found = need(locked)
    assert (found.kind, str(found.version), found.driver) == ("driver", version, driver)
    assert str(found.evidence[0]) == evidence
    assert lacking(found, None) == ""


@pytest.mark.parametrize(
    ("locked", "libraries", "driver"),
    [
        ("tensorflow==1.15.5", "CUDA 10.0 and cuDNN 7.4", "410.48"),
        ("tensorflow-gpu==2.0.0", "CUDA 10.0 and cuDNN 7.4", "410.48"),
        ("tensorflow==2.3.0", "CUDA 10.1 and cuDNN 7.6", "418.39"),
        ("tensorflow==2.4.4", "CUDA 11.0 and cuDNN 8.0", "450.36.06"),
        ("tensorflow==2.5.0", "CUDA 11.2 and cuDNN 8.1", "450.80.02"),
        ("tensorflow==2.6.0", "CUDA 11.2 and cuDNN 8.1", "450.80.02"),
        ("tensorflow-gpu==2.6.0", "CUDA 11.2 and cuDNN 8.1", "450.80.02"),
        ("tensorflow==2.11.1", "CUDA 11.2 and cuDNN 8.1", "450.80.02"),
        ("tensorflow==2.12.0", "CUDA 11.8 and cuDNN 8.6", "450.80.02"),
        ("tensorflow==2.14.1", "CUDA 11.8 and cuDNN 8.7", "450.80.02"),
        ("tensorflow==2.15.0", "CUDA 12.2 and cuDNN 8.9", "525.60.13"),
        ("tensorflow==2.17.0", "CUDA 12.3 and cuDNN 8.9", "525.60.13"),
        ("tensorflow==2.20.0", "CUDA 12.5 and cuDNN 9.3", "525.60.13"),
        ("tensorflow==2.6.0rc1", "CUDA 11.2 and cuDNN 8.1", "450.80.02"),
        ("cupy-cuda92==7.8.0", "CUDA 9.2", "396.26"),
        ("cupy-cuda102==9.6.0", "CUDA 10.2", "440.33"),
        ("cupy-cuda11x==12.3.0", "CUDA 11.2", "450.80.02"),
        ("cupy-cuda12x==13.3.0", "CUDA 12", "525.60.13"),
        ("cudf-cu12==24.10.0", "CUDA 12", "525.60.13"),
        ("jaxlib==0.4.13+cuda11.cudnn86", "CUDA 11.8 and cuDNN 8.6", "450.80.02"),
        ("jax-cuda12-plugin==0.4.28", "CUDA 12.1 and cuDNN 8.9", "525.60.13"),
        ("jax-cuda12-plugin==0.4.30", "CUDA 12.1 and cuDNN 9.0", "525.60.13"),
        ("jax-cuda12-pjrt==0.4.35", "CUDA 12.1 and cuDNN 9.1", "525.60.13"),
        ("jax-cuda12-plugin==0.10.2", "CUDA 12.1 and cuDNN 9.8", "525.60.13"),
        ("jax-cuda13-plugin==0.10.2", "CUDA 13.0 and cuDNN 9.12", "580.65.06"),
        ("onnxruntime-gpu==1.8.1", "CUDA 11.0 and cuDNN 8.0", "450.36.06"),
        ("onnxruntime-gpu==1.12.1", "CUDA 11.4 and cuDNN 8.2", "450.80.02"),
        ("onnxruntime-gpu==1.18.1", "CUDA 11.6 and cuDNN 8.2", "450.80.02"),
        ("onnxruntime-gpu==1.20.1", "CUDA 12.0 and cuDNN 9.0", "525.60.13"),
        ("onnxruntime-gpu==1.26.0", "CUDA 12.0 and cuDNN 9.0", "525.60.13"),
        ("onnxruntime-gpu==1.31.1", "CUDA 13.0 and cuDNN 9.0", "580.65.06"),
        ("paddlepaddle-gpu==2.4.2", "CUDA 10.2 and cuDNN 7.6", "440.33"),
        ("paddlepaddle-gpu==2.5.2.post117", "CUDA 11.7 and cuDNN 8.2", "450.80.02"),
        ("paddlepaddle-gpu==2.6.2", "CUDA 11.8 and cuDNN 8.6", "450.80.02"),
        ("paddlepaddle-gpu==2.6.2.post120", "CUDA 12.0 and cuDNN 8.2", "525.60.13"),
    ],
)
def test_packages_that_load_cuda_need_it_in_the_base(locked: str, libraries: str, driver: str) -> None:
    found = need(locked)
    assert (found.kind, str(found.libraries[0]), found.driver) == ("libraries", libraries, driver)
    assert lacking(found, None).startswith(libraries)


@pytest.mark.parametrize(
    "locked",
    [
        "numpy==1.26.4 pandas==2.2.3",
        "tensorflow-cpu==2.6.0",
        "tensorflow==1.14.0",
        "tensorflow==2.0.0",
        "torch==2.4.0+cpu torchvision==0.19.0+cpu",
        "nvidia-ml-py==12.535.133",
        "jax==0.4.35 jaxlib==0.4.35",
    ],
)
def test_other_stacks_need_nothing(locked: str) -> None:
    found = need(locked)
    assert (found.kind, found.version, found.driver, lacking(found, None)) == ("nothing", None, None, "")


def test_a_build_without_cuda_is_evidence_of_its_own() -> None:
    assert [str(each) for each in need("torch==2.4.0+cpu").evidence] == ["torch 2.4.0+cpu is a build without CUDA"]


def test_on_another_machine_the_default_builds_have_no_cuda() -> None:
    assert need("torch==1.12.1 tensorflow==2.11.0", "aarch64").kind == "nothing"


def test_of_two_needs_the_newer_driver_counts() -> None:
    both = need("torch==1.9.1 tensorflow==2.6.0")
    assert (both.kind, both.carried, both.driver) == ("libraries", Version("10.2"), "450.80.02")


@pytest.mark.parametrize("locked", ["paddlepaddle-gpu==2.2.2.post1", "paddlepaddle-gpu==3.2.0"])
def test_what_the_rules_do_not_tell_is_not_guessed(locked: str) -> None:
    assert need(locked).kind == "nothing"


def test_each_piece_of_evidence_names_its_source() -> None:
    found = need("tensorflow==2.6.0 torch==1.9.1 nvidia-nccl-cu12==2.20.5")
    assert len(found.evidence) == 3
    assert all(each.source for each in found.evidence)


@pytest.mark.parametrize(
    ("locked", "base", "lacks"),
    [
        ("tensorflow==2.6.0", cuda("11.2", "8.1"), ""),
        ("tensorflow==2.6.0", cuda("11.8", "8.9"), ""),
        ("tensorflow==2.6.0", cuda("11.0", "8.0"), "CUDA 11.2 for tensorflow 2.6.0 (it has 11.0)"),
        ("tensorflow==2.6.0", cuda("12.2", "8.9"), "CUDA 11.2 for tensorflow 2.6.0 (it has 12.2)"),
        ("tensorflow==2.6.0", cuda("11.2"), "cuDNN 8.1 for tensorflow 2.6.0 (it has none)"),
        ("tensorflow==2.6.0", cuda("11.8", "9.1"), "cuDNN 8.1 for tensorflow 2.6.0 (it has 9.1)"),
        (
            "tensorflow==2.6.0",
            cuda("11.8", "8.9", libraries=False),
            "the libraries of CUDA beside libcudart, for tensorflow 2.6.0",
        ),
        ("tensorflow==2.4.4", cuda("11.0", "8.0"), ""),
        ("tensorflow==2.4.4", cuda("11.2", "8.1"), "CUDA 11.0 for tensorflow 2.4.4 (it has 11.2)"),
        ("tensorflow==2.3.0", cuda("10.2", "7.6"), "CUDA 10.1 for tensorflow 2.3.0 (it has 10.2)"),
        ("cupy-cuda12x==13.3.0", cuda("12.6"), ""),
        ("cupy-cuda12x==13.3.0", cuda("13.0"), "CUDA 12 for cupy-cuda12x 13.3.0 (it has 13.0)"),
    ],
)
def test_a_base_serves_later_versions_of_its_major_one(locked: str, base: Cuda, lacks: str) -> None:
    assert lacking(need(locked), base) == lacks


def test_a_tensorflow_notebook_is_told_what_a_gpu_would_take() -> None:
    assert outlook(need("tensorflow==2.6.0"), "3.9", cuda_rules()) == (
        "tensorflow 2.6.0 will compute on the CPU in this image. To use a GPU it needs NVIDIA's CUDA 11.2 and cuDNN "
        "8.1, which neither the base nor a locked package brings. Build with --gpu on NVIDIA's image "
        "docker.io/nvidia/cuda:11.2.2-cudnn8-runtime-ubuntu20.04 with Python 3.9 added: docs/gpu.md shows two ways. "
        "CUDA 11.2 needs NVIDIA driver 450.80.02 or newer on the machine. Or lock "
        "tensorflow[and-cuda] 2.14 or later (for Python 3.9 or later), which brings CUDA along."
    )


def test_what_brings_its_cuda_is_said_to_use_a_gpu_all_the_same() -> None:
    told = outlook(need("tensorflow==2.6.0 torch==1.9.0"), "3.9", cuda_rules())
    assert told.endswith(" torch 1.9.0 can use a GPU in this image as it is, since CUDA comes along.")


def test_an_image_whose_ubuntu_has_the_python_is_advised_first() -> None:
    assert "ubuntu22.04 with Python 3.11 added: docs/gpu.md shows two ways." in advice(
        need("tensorflow==2.6.0"), "3.11", cuda_rules()
    )
    assert "ubuntu20.04 with Python 3.10 added: docs/gpu.md shows how." in advice(
        need("tensorflow==2.4.4"), "3.10", cuda_rules()
    )


def test_a_package_that_needs_a_gpu_is_not_said_to_run_on_the_cpu() -> None:
    assert outlook(need("cupy-cuda12x==13.3.0"), "3.11", cuda_rules()).startswith(
        "cupy-cuda12x 13.3.0 computes on GPUs only, and cannot in this image. To use a GPU it needs NVIDIA's "
        "CUDA 12, which neither"
    )


@pytest.mark.parametrize(
    ("locked", "generation"),
    [
        ("torch==1.9.1", "CUDA 10.2 is older than GPUs of the generation Ampere (A100, RTX 30): "),
        ("torch==1.9.1+cu111 tensorflow==2.4.1", "CUDA 11.1 is older than GPUs of the generation Hopper (H100): "),
        ("torch==2.1.2+cu118", "CUDA 11.8 is older than GPUs of the generation Blackwell (B200, RTX 50): "),
        ("torch==2.7.1+cu128", ""),
        # 12.8 is a 12, too.
        ("xgboost==3.2.0 nvidia-nccl-cu12==2.22.3", ""),
        # It asks for 12.1 or newer.
        ("jax-cuda12-plugin==0.10.2", ""),
        ("numpy==1.26.4", ""),
    ],
)
def test_gpus_that_are_newer_than_cuda_are_told(locked: str, generation: str) -> None:
    told = too_new(need(locked), cuda_rules())
    assert told == (f"{generation}on these and later ones it may not work." if generation else "")


def test_where_no_image_is_left_another_version_is_advised() -> None:
    assert advice(need("tensorflow==2.3.0"), "3.8", cuda_rules()).startswith("Lock tensorflow[and-cuda] 2.14 or later")
    both = need("tensorflow==2.6.0 cupy-cuda12x==13.3.0")
    assert "no image that NVIDIA still offers has these libraries together" in advice(both, "3.9", cuda_rules())


def test_every_row_names_an_address() -> None:
    document = cuda_document()
    rows = [(table, row) for table, rows in document.items() for row in rows]
    assert len(rows) > 50
    assert [
        (table, row["source"]) for table, row in rows if not re.search(r": https://[\w.-]+/\S+$", row["source"])
    ] == []


def test_every_advised_image_is_what_the_rules_say_it_serves() -> None:
    for image in cuda_rules().images:
        assert f":{image.cuda.version}." in image.tag
        assert "-runtime-ubuntu" in image.tag


# -- the file of rules -------------------------------------------------------------------------------

CARRIED = {"package": "a", "cuda": "1.0", "source": "s"}


@pytest.mark.parametrize(
    ("document", "mistake"),
    [
        ({"carred": [CARRIED]}, r"no table \[\[carred\]\]"),
        ({"carried": [CARRIED, {**CARRIED, "pakage": "b"}]}, r"\[\[carried\]\] number 2: the key 'pakage' is none of"),
        ({"carried": [{"package": "a", "cuda": "1"}]}, r"number 1: the key 'source' is missing"),
        ({"carried": [{**CARRIED, "package": "("}]}, r"number 1: missing \)"),
        ({"carried": [{**CARRIED, "package": ""}]}, r"number 1: package is empty"),
        ({"carried": [{**CARRIED, "cuda": 12}]}, r"number 1: cuda has to be a string"),
        ({"carried": [{**CARRIED, "cuda": "twelve"}]}, r"number 1: Invalid version: 'twelve'"),
        ({"carried": [{**CARRIED, "cuda": "name"}]}, r"read from the name, and package has no group"),
        ({"carried": [{**CARRIED, "cuda": "local"}]}, r"read from the local version, and local has no group"),
        ({"carried": [{**CARRIED, "versions": "2"}]}, r"number 1: Invalid specifier: '2'"),
        ({"libraries": [{**CARRIED, "exact": "yes"}]}, r"number 1: exact has to be true or false"),
        ({"driver": [{"cuda": "==1.0", "minimum": "new", "reports": "1.0", "source": "s"}]}, r"Invalid version: 'new'"),
        ({"carried": ["torch"]}, r"number 1: it is no table"),
        (
            {"image": [{"tag": "t", "cuda": "1", "cudnn": "1", "pythons": "3.8", "source": "s"}]},
            r"pythons has to be a list of strings",
        ),
        (
            {"carried": [{**CARRIED, "cuda": "post", "local": "x"}]},
            r"read from the post release, and local is given, too",
        ),
    ],
)
def test_a_mistake_in_the_rules_is_named_with_its_row_and_key(document: dict[str, Any], mistake: str) -> None:
    with pytest.raises(ValueError, match=rf"^cuda\.toml.*{mistake}"):
        parse_rules(document, "cuda.toml")
