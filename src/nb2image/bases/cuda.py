"""CUDA and cuDNN that an image brings outside of Python packages, as its environment and its libraries tell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from nb2image.image.filesystem import FileSystem

__all__ = ["Cuda", "cuda_in"]

_LIBRARY = re.compile(
    r"lib(?:cudart|cudnn|cublas|cublasLt|cufft|curand|cusolver|cusparse|nccl|nvrtc|nvinfer|cupti|nvToolsExt)"
    r"\.so(?:\.(\d+(?:\.\d+)*))"
)
_VERSION = re.compile(r"\d+(?:\.\d+)+")


@dataclass(frozen=True)
class Cuda:
    """``version`` and ``cudnn`` as the image's environment states them, else as the libraries are named; ``driver`` is
    ``NVIDIA_REQUIRE_CUDA``; ``libraries`` are paths, of each library the name with the longest version."""

    version: str | None
    cudnn: str | None
    driver: str | None
    libraries: tuple[str, ...]


def cuda_in(files: FileSystem, env: Mapping[str, str]) -> Cuda:
    """What there is of CUDA; libraries inside of wheels are those packages' own and not told."""
    found: dict[str, tuple[str, str]] = {}
    for path in files.nodes:
        folder, _, name = path.rpartition("/")
        stated = _LIBRARY.fullmatch(name)
        if stated and "-packages/" not in path and not files.nodes[path].info.isdir():
            key = f"{files.resolve(folder) or folder}/{name.partition('.so')[0]}"
            if key not in found or len(stated[1]) > len(found[key][0]):
                found[key] = stated[1], f"/{path}"

    def named(library: str) -> str | None:
        versions = [version for key, (version, _) in sorted(found.items()) if key.endswith(f"/{library}")]
        return max(versions, key=len, default=None)

    return Cuda(
        version=_stated(env, "CUDA_VERSION") or named("libcudart"),
        cudnn=_stated(env, "NV_CUDNN_VERSION", "CUDNN_VERSION") or named("libcudnn"),
        driver=env.get("NVIDIA_REQUIRE_CUDA") or None,
        libraries=tuple(sorted(path for _, path in found.values())),
    )


def _stated(env: Mapping[str, str], *names: str) -> str | None:
    for name in names:
        if found := _VERSION.match(env.get(name, "")):
            return found[0]
    return None
