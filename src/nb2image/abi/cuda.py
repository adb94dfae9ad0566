"""CUDA as the objects of wheels tell it, whatever the table of packages knows: pure functions over what was found.

Which CUDA a soname is of: NVIDIA counts those of libcudart, libcublas and libnvrtc like CUDA itself, all of CUDA 11 as
``libcudart.so.11.0``; those of its other libraries have numbers of their own, which are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from packaging.utils import canonicalize_name

from nb2image.abi.check import Findings, MissingLibrary

__all__ = ["CudaLack", "cuda_lacks", "driver_users", "without_cuda"]

_COUNTED = re.compile(r"lib(?:cudart|cublas|cublasLt|nvrtc)\.so\.(\d+)(?:\.(\d+))?(?:\.\d+)*")
_CUDNN = re.compile(r"libcudnn\w*\.so\.(\d+)(?:\.\d+)*")
_OTHERS = re.compile(
    r"lib(?:cufftw?|curand|cusolver(?:Mg)?|cusparse(?:Lt)?|cupti|cufile|nvToolsExt|nvJitLink|nvrtc-builtins|nvjpeg"
    r"|npp\w+|nccl|cutensor\w*|nvinfer\w*)\.so(?:\.\d+)*"
)
_ONE_MAJOR = 11
"""From this version on, libraries of one major version serve all of it (CUDA Compatibility, minor versions)."""


class CudaLack(NamedTuple):
    """What a package needs of CUDA and neither wheels nor base have.

    ``package`` and ``version`` by its wheel; ``cuda``: ``12``, ``10.2``, or empty where the sonames do not tell;
    ``cudnn``: a major version or empty. ``certain``: something that is imported needs it.
    """

    package: str
    version: str
    sonames: tuple[str, ...]
    cuda: str
    cudnn: str
    certain: bool

    @property
    def title(self) -> str:
        return f"{self.package} {self.version}"

    def __str__(self) -> str:
        named = " and ".join(
            (*([f"CUDA {self.cuda}"] if self.cuda else []), *([f"cuDNN {self.cudnn}"] if self.cudnn else []))
        )
        shown = ", ".join(self.sonames[:3]) + (f" and {len(self.sonames) - 3} more" if len(self.sonames) > 3 else "")
        return f"{named or 'libraries of CUDA'} ({shown})"


def cuda_lacks(findings: Findings) -> tuple[CudaLack, ...]:
    """The libraries of CUDA among what is missing, by package."""
    found: dict[tuple[str, str], list[MissingLibrary]] = {}
    for each in findings.missing:
        if _is_cuda(each.soname):
            for owner in dict.fromkeys(_owner(filename) for filename, _ in each.needed_by):
                found.setdefault(owner, []).append(each)
    rows = []
    for (name, version), missing in sorted(found.items()):
        sonames = tuple(sorted(each.soname for each in missing))
        certain = any(each.certain for each in missing)
        rows.append(CudaLack(name, version, sonames, _cuda(sonames), _cudnn(sonames), certain))
    return tuple(rows)


def without_cuda(findings: Findings) -> Findings:
    """The same without CUDA, which no distribution's packages bring."""
    return findings._replace(missing=tuple(each for each in findings.missing if not _is_cuda(each.soname)))


def driver_users(findings: Findings) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Names with version of packages that need libraries of NVIDIA's driver, and which."""
    found: dict[str, set[str]] = {}
    for each in findings.driver:
        for filename, _ in each.needed_by:
            found.setdefault(" ".join(_owner(filename)), set()).add(each.soname)
    return tuple((package, tuple(sorted(sonames))) for package, sonames in sorted(found.items()))


def _is_cuda(soname: str) -> bool:
    return any(pattern.fullmatch(soname) for pattern in (_COUNTED, _CUDNN, _OTHERS))


def _owner(filename: str) -> tuple[str, str]:
    name, version = filename.split("-")[:2]
    return canonicalize_name(name), version


def _cuda(sonames: Iterable[str]) -> str:
    """The newest that any asks for."""
    stated = [(int(m[1]), int(m[2] or 0)) for each in sonames if (m := _COUNTED.fullmatch(each))]
    if not stated:
        return ""
    major, minor = max(stated)
    return str(major) if major >= _ONE_MAJOR or not minor else f"{major}.{minor}"


def _cudnn(sonames: Iterable[str]) -> str:
    return str(max((int(m[1]) for each in sonames if (m := _CUDNN.fullmatch(each))), default=""))
