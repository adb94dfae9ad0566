"""Which base is chosen for locks of real releases, and why: a table that a packaging expert would defend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from nb2image.bases.model import Candidate
from nb2image.errors import NoCuda, NoMatchingFiles
from nb2image.images import cuda_rules
from nb2image.target.match import Match, Wishes, match
from tests.unit.target.catalogue import BASES, TODAY, base, lock_of

TORCH_1_13 = "torch==1.13.1 nvidia-cuda-runtime-cu11==11.7.99 nvidia-cudnn-cu11==8.5.0.96"
TORCH_2_4 = (
    "torch==2.4.0 triton==3.0.0 nvidia-cuda-runtime-cu12==12.1.105 nvidia-cudnn-cu12==9.1.0.70 nvidia-nccl-cu12==2.20.5"
)
AMD64 = [each for each in BASES if each.target.platform.architecture == "amd64"]


def matched(
    pins: str, python: str | None, wish: str = "", bases: Sequence[Candidate] = AMD64, *, name: str | None = None
) -> Match:
    wishes = Wishes(name, gpu=wish == "gpu", build_sdists=wish == "build", today=TODAY)
    return match(lock_of(pins, python), bases, wishes, cuda_rules())


# Python of the lock, its packages, what is wished for; the base or the error, and the deciding reason.
CASES: tuple[tuple[str | None, str, str, str, str], ...] = (
    ("3.7", "numpy==1.19.5", "", "python:3.7-slim", "glibc 2.5 or newer is needed, by numpy 1.19.5"),
    ("3.7", "numpy==1.21.6 torch==1.12.1", "", "python:3.7-slim", "glibc 2.12 or newer is needed, by numpy 1.21.6"),
    ("3.8", "numpy==1.24.4", "", "python:3.8-slim", "glibc 2.17 or newer is needed, by numpy 1.24.4"),
    (
        "3.8",
        "numpy==1.19.5 pandas==1.1.5 matplotlib==3.3.4",
        "",
        "python:3.8-slim",
        "glibc 2.5 or newer is needed, by matplotlib 3.3.4",
    ),
    ("3.8", "torch==1.9.1", "", "python:3.8-slim", "glibc 2.5 or newer is needed, by torch 1.9.1"),
    ("3.8", "torch==1.9.1", "gpu", "python:3.8-slim", "the wheels bring CUDA 10.2, so the base needs none"),
    ("3.8", "torch==1.4.0", "gpu", "python:3.8-slim", "the wheels bring CUDA 10.1, so the base needs none"),
    ("3.8", "tensorflow==2.4.4", "", "python:3.8-slim", "glibc 2.12 or newer is needed, by tensorflow 2.4.4"),
    (
        "3.8",
        "tensorflow==2.4.4",
        "gpu",
        "NoCuda",
        "--gpu asks for CUDA: tensorflow 2.4.4 loads CUDA 11.0 and cuDNN 8.0 from the base",
    ),
    ("3.8", "tensorflow==2.6.0", "", "python:3.8-slim", "glibc 2.12 or newer is needed, by tensorflow 2.6.0"),
    (
        "3.8",
        "tensorflow==2.6.0",
        "gpu",
        "cuda11.2-python3.8",
        "it brings CUDA 11.2, cuDNN 8.1, and tensorflow 2.6.0 loads CUDA 11.2 and cuDNN 8.1",
    ),
    (
        "3.8",
        "tensorflow-gpu==2.6.0",
        "gpu",
        "cuda11.2-python3.8",
        "it brings CUDA 11.2, cuDNN 8.1, and tensorflow-gpu 2.6.0 loads CUDA 11.2 and cuDNN 8.1",
    ),
    (
        "3.8",
        "tensorflow==2.8.0 torch==1.9.1",
        "gpu",
        "cuda11.2-python3.8",
        "it brings CUDA 11.2, cuDNN 8.1, and tensorflow 2.8.0 loads CUDA 11.2 and cuDNN 8.1",
    ),
    (
        "3.8",
        "tensorflow==2.13.1",
        "gpu",
        "NoCuda",
        "--gpu asks for CUDA: tensorflow 2.13.1 loads CUDA 11.8 and cuDNN 8.6 from the base",
    ),
    ("3.8", "cryptography==45.0.7", "", "python:3.8-slim", "glibc 2.17 or newer is needed, by cryptography 45.0.7"),
    (
        "3.8",
        "pyarrow==6.0.1 scipy==1.5.4 scikit-learn==0.24.2",
        "",
        "python:3.8-slim",
        "glibc 2.12 or newer is needed, by pyarrow 6.0.1",
    ),
    (
        "3.8",
        "psycopg2==2.9.9",
        "",
        "NoMatchingFiles",
        "psycopg2 has no file that Python 3.8, glibc 2.36, linux/amd64 can install.",
    ),
    (
        "3.8",
        "psycopg2==2.9.9",
        "build",
        "python:3.8-slim",
        "0 of the 1 packages have a wheel for it (glibc 2.36), and 1 can be built from source distributions",
    ),
    ("3.8", "psycopg2-binary==2.9.9", "", "python:3.8-slim", "glibc 2.17 or newer is needed, by psycopg2-binary 2.9.9"),
    (
        "3.8",
        "cupy-cuda102==9.6.0",
        "gpu",
        "NoCuda",
        "--gpu asks for CUDA: cupy-cuda102 9.6.0 loads CUDA 10.2 from the base",
    ),
    ("3.9", "numpy==1.26.4", "", "ubi8/python-39", "glibc 2.17 or newer is needed, by numpy 1.26.4"),
    ("3.9", "pandas==1.5.3 lxml==4.9.3", "", "ubi8/python-39", "glibc 2.17 or newer is needed, by pandas 1.5.3"),
    (
        "3.9",
        "scipy==1.13.1 matplotlib==3.9.2",
        "",
        "ubi8/python-39",
        "glibc 2.17 or newer is needed, by matplotlib 3.9.2",
    ),
    ("3.9", "pyarrow==14.0.2", "", "ubi8/python-39", "glibc 2.17 or newer is needed, by pyarrow 14.0.2"),
    ("3.9", "pyarrow==21.0.0", "", "ubi8/python-39", "glibc 2.28 or newer is needed, by pyarrow 21.0.0"),
    ("3.9", "torch==2.0.1", "", "ubi8/python-39", "glibc 2.5 or newer is needed, by torch 2.0.1"),
    ("3.9", TORCH_2_4, "gpu", "ubi8/python-39", "the wheels bring CUDA 12.1, so the base needs none"),
    (
        "3.9",
        "tensorflow==2.16.1",
        "gpu",
        "NoCuda",
        "--gpu asks for CUDA: tensorflow 2.16.1 loads CUDA 12.3 and cuDNN 8.9 from the base",
    ),
    (
        "3.9",
        "numpy==1.16.6",
        "",
        "NoMatchingFiles",
        "numpy has no file that Python 3.9, glibc 2.28, linux/amd64 can install.",
    ),
    (
        "3.9",
        "numpy==1.16.6",
        "build",
        "ubi8/python-39",
        "0 of the 1 packages have a wheel for it (glibc 2.28), and 1 can be built from source distributions",
    ),
    (
        "3.9",
        "opencv-python==4.10.0.84 requests==2.32.3",
        "",
        "ubi8/python-39",
        "glibc 2.17 or newer is needed, by opencv-python 4.10.0.84",
    ),
    ("3.10", "numpy==1.26.4 scipy==1.10.1", "", "python:3.10-slim", "glibc 2.17 or newer is needed, by numpy 1.26.4"),
    ("3.10", TORCH_1_13, "", "python:3.10-slim", "glibc 2.5 or newer is needed, by nvidia-cuda-runtime-cu11 11.7.99"),
    ("3.10", TORCH_1_13, "gpu", "python:3.10-slim", "the wheels bring CUDA 11.7, so the base needs none"),
    ("3.10", "tensorflow==2.11.0", "", "python:3.10-slim", "glibc 2.17 or newer is needed, by tensorflow 2.11.0"),
    (
        "3.10",
        "tensorflow==2.11.0",
        "gpu",
        "cuda11.8-python3.10",
        "it brings CUDA 11.8, cuDNN 8.9, and tensorflow 2.11.0 loads CUDA 11.2 and cuDNN 8.1",
    ),
    (
        "3.10",
        "tensorflow==2.13.1",
        "gpu",
        "cuda11.8-python3.10",
        "it brings CUDA 11.8, cuDNN 8.9, and tensorflow 2.13.1 loads CUDA 11.8 and cuDNN 8.6",
    ),
    (
        "3.10",
        "tensorflow==2.20.0",
        "gpu",
        "cuda12.6-python3.10",
        "it brings CUDA 12.6, cuDNN 9.5, and tensorflow 2.20.0 loads CUDA 12.5 and cuDNN 9.3",
    ),
    (
        "3.10",
        "cupy-cuda11x==12.3.0",
        "gpu",
        "cuda11.8-python3.10",
        "it brings CUDA 11.8, cuDNN 8.9, and cupy-cuda11x 12.3.0 loads CUDA 11.2",
    ),
    (
        "3.10",
        "cupy-cuda12x==13.3.0",
        "gpu",
        "cuda12.6-python3.10",
        "it brings CUDA 12.6, cuDNN 9.5, and cupy-cuda12x 13.3.0 loads CUDA 12",
    ),
    ("3.10", "cupy-cuda12x==13.3.0", "", "python:3.10-slim", "glibc 2.17 or newer is needed, by cupy-cuda12x 13.3.0"),
    (
        "3.10",
        "jaxlib==0.4.35 jax-cuda12-plugin==0.4.35",
        "gpu",
        "cuda12.6-python3.10",
        "it brings CUDA 12.6, cuDNN 9.5, and jax-cuda12-plugin 0.4.35 loads CUDA 12",
    ),
    (
        "3.10",
        "jaxlib==0.4.35 jax-cuda12-plugin==0.4.35 nvidia-cuda-runtime-cu12==12.4.127",
        "gpu",
        "python:3.10-slim",
        "the wheels bring CUDA 12.4, so the base needs none",
    ),
    (
        "3.10",
        "cupy-cuda11x==12.3.0 tensorflow==2.20.0",
        "gpu",
        "NoCuda",
        "--gpu asks for CUDA: tensorflow 2.20.0 loads CUDA 12.5 and cuDNN 9.3, cupy-cuda11x 12.3.0 loads CUDA 11.2",
    ),
    ("3.11", "numpy==2.0.2 pandas==2.2.3", "", "python:3.11-slim", "glibc 2.17 or newer is needed, by numpy 2.0.2"),
    ("3.11", "numpy==2.3.5 scipy==1.16.3", "", "python:3.11-slim", "glibc 2.27 or newer is needed, by numpy 2.3.5"),
    ("3.11", TORCH_2_4, "", "python:3.11-slim", "glibc 2.17 or newer is needed, by nvidia-cudnn-cu12 9.1.0.70"),
    ("3.11", TORCH_2_4, "gpu", "python:3.11-slim", "the wheels bring CUDA 12.1, so the base needs none"),
    (
        "3.11",
        "numpy==1.21.6",
        "",
        "NoMatchingFiles",
        "numpy has no file that Python 3.11, glibc 2.41, linux/amd64 can install.",
    ),
    ("3.11", "tensorflow==2.16.1 h5py==3.8.0", "", "python:3.11-slim", "glibc 2.17 or newer is needed, by h5py 3.8.0"),
    (
        "3.11",
        "tensorflow==2.16.1",
        "gpu",
        "NoCuda",
        "--gpu asks for CUDA: tensorflow 2.16.1 loads CUDA 12.3 and cuDNN 8.9 from the base",
    ),
    (
        "3.11",
        "xgboost==2.1.1 nvidia-nccl-cu12==2.22.3",
        "gpu",
        "python:3.11-slim",
        "the wheels bring CUDA 12, so the base needs none",
    ),
    (
        "3.11",
        "numpy==1.26.4",
        "gpu",
        "NoCuda",
        "--gpu asks for CUDA, and no locked package uses it, as far as nb2image knows.",
    ),
    (
        "3.11",
        "polars==1.9.0 cryptography==42.0.8",
        "",
        "python:3.11-slim",
        "glibc 2.17 or newer is needed, by cryptography 42.0.8",
    ),
    ("3.12", "numpy==2.3.5", "", "python:3.12-slim", "glibc 2.27 or newer is needed, by numpy 2.3.5"),
    ("3.12", "requests==2.32.3", "", "python:3.12-slim", "each of the 1 packages has a wheel for it (glibc 2.41)"),
    ("3.12", "pyarrow==21.0.0", "", "python:3.12-slim", "glibc 2.28 or newer is needed, by pyarrow 21.0.0"),
    (
        "3.12",
        "torch==2.11.0 nvidia-cuda-runtime==13.0.96 cuda-toolkit==13.0.2",
        "gpu",
        "python:3.12-slim",
        "the wheels bring CUDA 13.0, so the base needs none",
    ),
    (
        "3.12",
        "cupy-cuda12x==13.3.0",
        "gpu",
        "NoCuda",
        "--gpu asks for CUDA: cupy-cuda12x 13.3.0 loads CUDA 12 from the base",
    ),
    (
        "3.12",
        "scipy==1.10.1",
        "",
        "NoMatchingFiles",
        "scipy has no file that Python 3.12, glibc 2.41, linux/amd64 can install.",
    ),
    ("3.13", "numpy==2.3.5 pyarrow==21.0.0", "", "trixie", "glibc 2.28 or newer is needed, by pyarrow 21.0.0"),
    ("3.13", "scikit-learn==1.5.2", "", "trixie", "glibc 2.17 or newer is needed, by scikit-learn 1.5.2"),
    ("3.13", "torch==2.9.1", "", "trixie", "glibc 2.28 or newer is needed, by torch 2.9.1"),
    ("3.13", "tensorflow==2.20.0", "", "trixie", "glibc 2.17 or newer is needed, by tensorflow 2.20.0"),
    ("3.14", "numpy==2.3.5 torch==2.9.1", "", "python:3.14-slim", "glibc 2.28 or newer is needed, by torch 2.9.1"),
    (
        "3.14",
        "pandas==2.2.3",
        "",
        "NoMatchingFiles",
        "pandas has no file that Python 3.14, glibc 2.41, linux/amd64 can install.",
    ),
    (
        "3.14",
        "pandas==2.2.3",
        "build",
        "python:3.14-slim",
        "0 of the 1 packages have a wheel for it (glibc 2.41), and 1 can be built from source distributions",
    ),
    (None, "numpy==1.26.4", "", "python:3.12-slim", "glibc 2.17 or newer is needed, by numpy 1.26.4"),
    (None, "numpy==1.19.5", "", "ubi8/python-39", "glibc 2.5 or newer is needed, by numpy 1.19.5"),
    (None, "scipy==1.10.1", "", "python:3.11-slim", "glibc 2.17 or newer is needed, by scipy 1.10.1"),
    (None, "requests==2.32.3", "", "python:3.14-slim", "each of the 1 packages has a wheel for it (glibc 2.41)"),
    (None, "torch==1.13.1", "", "python:3.11-slim", "glibc 2.5 or newer is needed, by torch 1.13.1"),
    (None, "tensorflow==2.20.0 numpy==2.0.2", "", "python:3.12-slim", "glibc 2.17 or newer is needed, by numpy 2.0.2"),
    (None, "lxml==4.9.3", "", "python:3.12-slim", "glibc 2.28 or newer is needed, by lxml 4.9.3"),
    (
        None,
        "psycopg2-binary==2.9.9 cryptography==3.4.8",
        "",
        "python:3.12-slim",
        "glibc 2.17 or newer is needed, by psycopg2-binary 2.9.9",
    ),
    (None, "tensorflow==1.15.5", "", "python:3.7-slim", "glibc 2.12 or newer is needed, by tensorflow 1.15.5"),
    (
        None,
        "opencv-python==4.5.5.64 h5py==3.8.0",
        "",
        "python:3.11-slim",
        "glibc 2.17 or newer is needed, by h5py 3.8.0",
    ),
)


@pytest.mark.parametrize(("python", "pins", "wish", "expected", "why"), CASES)
def test_the_choice_and_its_reason(python: str | None, pins: str, wish: str, expected: str, why: str) -> None:
    refusal = {"NoCuda": NoCuda, "NoMatchingFiles": NoMatchingFiles}.get(expected)
    if refusal is not None:
        with pytest.raises(refusal) as caught:
            matched(pins, python, wish)
        assert caught.value.message.startswith(why)
        assert caught.value.hint
        return
    found = matched(pins, python, wish)
    assert found.candidate.name == expected
    assert any(reason.startswith(why) for reason in found.reasons), found.reasons
    assert [row.name for row in found.rows if row.chosen] == [expected]
    assert {row.name for row in found.rows} == {each.name for each in AMD64}
    assert all(row.lacks or row.satisfied == row.total for row in found.rows)


def row_of(found: Match, name: str) -> str:
    (row,) = (row for row in found.rows if row.name == name)
    return row.reason


@pytest.mark.parametrize(
    ("python", "pins", "wish", "name", "why"),
    [
        ("3.12", "numpy==2.3.5", "", "python:3.12-alpine", "numpy 2.3.5: its wheels need glibc ≥ 2.27"),
        ("3.8", "cupy-cuda102==9.6.0 pyarrow==6.0.1", "", "centos7-python38", "would do as well; python:3.8-slim"),
        ("3.9", "pyarrow==21.0.0", "", "bullseye", "out of support since 2026-08-31"),
        (
            "3.12",
            "pyarrow==21.0.0",
            "",
            "cuda13.0-python3.12",
            "brings CUDA 13.0, cuDNN 9.10, which nothing would load",
        ),
        ("3.11", "numpy==2.0.2", "", "trixie", "Python 3.13, and Pipfile.lock asks for 3.11"),
        ("3.13", "numpy==2.3.5", "", "python:3.13-slim", "would do as well; trixie is smaller"),
        ("3.8", "tensorflow==2.6.0", "gpu", "python:3.8-slim", "CUDA 11.2 and cuDNN 8.1 for tensorflow 2.6.0"),
        (None, "scipy==1.10.1", "", "python:3.14-slim", "scipy 1.10.1: needs Python <3.12,>=3.8"),
        (None, "requests==2.32.3", "", "trixie", "would do as well; python:3.14-slim has the newer Python (3.14)"),
    ],
)
def test_a_base_that_is_not_chosen_says_why(python: str | None, pins: str, wish: str, name: str, why: str) -> None:
    assert row_of(matched(pins, python, wish), name).startswith(why)


def test_near_misses_come_before_bases_that_lack_more() -> None:
    old = base("old", "3.11.1", "2.17", 1)
    older = base("older", "3.11.1", "2.12", 1)
    fits = base("fits", "3.11.1", "2.36", 1)
    pins = "numpy==2.3.5 pandas==2.2.3 requests==2.32.3"
    found = matched(pins, "3.11", bases=(older, old, fits, base("other", "3.12.1", "2.36", 1)))
    assert [(row.name, row.lacks) for row in found.misses] == [
        ("old", "numpy 2.3.5: its wheels need glibc ≥ 2.27"),
        ("older", "2 packages have no file for it, first numpy 2.3.5: its wheels need glibc ≥ 2.27"),
        ("other", "Python 3.11"),
    ]


def test_a_base_past_its_end_of_life_is_chosen_only_with_a_warning() -> None:
    assert matched("numpy==1.24.4", "3.8").warnings == (
        "python:3.8-slim has been out of support since 2024-10-07: nobody mends its security faults. No better base "
        "fits the lock; lock the notebook for a newer Python when you can.",
    )
    assert matched("numpy==2.0.2", "3.11").warnings == ()


def test_a_base_that_was_asked_for_is_taken_whatever_is_better() -> None:
    found = matched("numpy==1.26.4", "3.10", name="cuda11.8-python3.10")
    assert found.candidate.name == "cuda11.8-python3.10"
    assert found.reasons[0] == "asked for by --base"


def test_of_equals_the_one_on_this_machine_is_taken() -> None:
    here = replace(base("z-here", "3.11.1", "2.36", 1), cached=True)
    bases = (base("a-elsewhere", "3.11.1", "2.36", 1), here)
    found = matched("requests==2.32.3", "3.11", bases=bases)
    assert found.candidate.name == "z-here"
    assert row_of(found, "a-elsewhere") == "would do as well as z-here, which is on this machine"


def test_of_two_that_fit_what_nb2image_assembles_goes_first() -> None:
    named = replace(base("named", "3.11.1", "2.41", 1), order=1)
    found = matched("requests==2.32.3", "3.11", bases=(named, base("assembled", "3.11.1", "2.36", 1)))
    assert found.candidate.name == "assembled"
    assert row_of(found, "named") == "would do as well; assembled goes first, since nb2image assembles it itself"


def test_the_order_in_which_bases_are_offered_does_not_matter() -> None:
    for pins, python in (("requests==2.32.3", None), ("numpy==1.26.4", "3.10"), ("pyarrow==21.0.0", "3.9")):
        assert matched(pins, python) == matched(pins, python, bases=AMD64[::-1])


def test_without_a_gpu_a_missing_cuda_is_one_note() -> None:
    found = matched("tensorflow==2.6.0", "3.8")
    assert len(found.notes) == 1
    assert found.notes[0].startswith("tensorflow 2.6.0 will compute on the CPU in this image")
    assert not any("CPU" in each for each in matched("tensorflow==2.6.0", "3.8", "gpu").notes)
    assert matched("torch==1.9.1", "3.8").notes == ()


def test_with_gpu_the_gpus_that_are_too_new_are_one_note() -> None:
    (note,) = matched("torch==1.9.1", "3.8", "gpu").notes
    assert note.startswith("CUDA 10.2 is older than GPUs of the generation Ampere (A100, RTX 30)")


def test_on_arm_wheels_of_arm_are_chosen() -> None:
    found = matched("numpy==2.3.5 pyarrow==21.0.0", "3.13", bases=BASES[-1:])
    assert all("aarch64" in chosen.wheel.filename for chosen in found.selection.chosen)


def test_a_lock_without_python_tells_which_package_asks_for_the_newest() -> None:
    found = matched("numpy==2.3.5 requests==2.32.3", None)
    assert "numpy 2.3.5 takes Python >=3.11; no other package asks for newer" in found.reasons
