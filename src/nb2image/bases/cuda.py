"""CUDA and cuDNN that an image brings outside of Python packages, as its libraries and its environment tell.

The files decide whether there are any, and tell their version where they are named in full (``libcudart.so.11.2.152``);
the variables that NVIDIA's images set tell what files do not, where both agree.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from packaging.version import Version

from nb2image.image.filesystem import FileSystem
from nb2image.target import model

__all__ = ["Cuda", "cuda_in"]

_LIBRARY = re.compile(
    r"lib(?:cudart|cudnn|cublas|cublasLt|cufft|curand|cusolver|cusparse|nccl|nvrtc|nvinfer|cupti|nvToolsExt)"
    r"\.so(?:\.(\d+(?:\.\d+)*))?"
)
_VERSION = re.compile(r"\d+(?:\.\d+)+")
_VARIABLES = {"libcudart": ("CUDA_VERSION",), "libcudnn": ("NV_CUDNN_VERSION", "CUDNN_VERSION")}


@dataclass(frozen=True)
class Cuda:
    """``version`` and ``cudnn`` as exactly as libraries and variables tell, None where there is no libcudart or no
    libcudnn; ``driver`` is ``NVIDIA_REQUIRE_CUDA``; ``libraries`` are paths, of each library in each folder the longest
    name."""

    version: str | None
    cudnn: str | None
    driver: str | None
    libraries: tuple[str, ...]

    @property
    def target(self) -> model.Cuda | None:
        """What a base with it offers; None without libcudart."""
        if self.version is None:
            return None
        complete = any(path.rpartition("/")[2].startswith("libcublas.so") for path in self.libraries)
        return model.Cuda(_minor(self.version), _minor(self.cudnn) if self.cudnn else None, complete)


def cuda_in(files: FileSystem, env: Mapping[str, str]) -> Cuda:
    """What there is of CUDA; libraries inside of wheels are those packages' own and not told."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for path in files.nodes:
        folder, _, name = path.rpartition("/")
        if not name.startswith("lib") or ".so" not in name or "-packages/" in path:
            continue
        stated = _LIBRARY.fullmatch(name)
        if stated and not files.nodes[path].info.isdir():
            key = (name.partition(".so")[0], files.resolve(folder) or folder)
            version = stated[1] or ""
            if key not in found or len(version) > len(found[key][0]):
                found[key] = version, f"/{path}"
    named: dict[str, list[Version]] = {}
    for (library, _), (text, _) in found.items():
        if text:
            named.setdefault(library, []).append(Version(text))
    return Cuda(
        version=_exact("libcudart", named, env),
        cudnn=_exact("libcudnn", named, env),
        driver=env.get("NVIDIA_REQUIRE_CUDA") or None,
        libraries=tuple(sorted(path for _, path in found.values())),
    )


def _exact(library: str, named: Mapping[str, list[Version]], env: Mapping[str, str]) -> str | None:
    if library not in named:
        return None
    best = max(named[library], key=lambda each: (len(each.release), each))
    # Shorter names are those of an interface: libcudart.so.11.0 is that of all of CUDA 11.
    known = best.release[:2] if len(best.release) >= 3 else best.release[:1]
    for variable in _VARIABLES[library]:
        stated = _VERSION.match(env.get(variable, ""))
        if stated and Version(stated[0]).release[: len(known)] == known:
            return stated[0]
    return str(best) if len(best.release) >= 3 else str(best.major)


def _minor(version: str) -> Version:
    """``X.Y``, or ``X`` where no more is known."""
    return Version(".".join(version.split(".")[:2]))
