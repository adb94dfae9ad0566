"""What the objects of wheels tell of CUDA."""

from __future__ import annotations

import pytest

from nb2image.abi.check import Findings, MissingLibrary
from nb2image.abi.cuda import CudaLack, cuda_lacks, driver_users, without_cuda

WHEEL = "My.Kernels-1.2-cp311-cp311-linux_x86_64.whl"


def missing(soname: str, *wheels: str, certain: bool = True) -> MissingLibrary:
    return MissingLibrary(soname, (), None, tuple((each, "k/_c.so") for each in wheels or (WHEEL,)), certain)


def lack(*sonames: str) -> CudaLack:
    (found,) = cuda_lacks(Findings(tuple(missing(each) for each in sonames), ()))
    return found


@pytest.mark.parametrize(
    ("sonames", "told"),
    [
        (("libcudart.so.12",), "CUDA 12 (libcudart.so.12)"),
        (("libcudart.so.11.0", "libcublas.so.11"), "CUDA 11 (libcublas.so.11, libcudart.so.11.0)"),
        (("libcudart.so.10.2", "libcublas.so.10"), "CUDA 10.2 (libcublas.so.10, libcudart.so.10.2)"),
        (("libnvrtc.so.11.2",), "CUDA 11 (libnvrtc.so.11.2)"),
        (("libcudnn.so.9", "libcudart.so.12"), "CUDA 12 and cuDNN 9 (libcudart.so.12, libcudnn.so.9)"),
        # cuFFT of CUDA 12 calls itself 11.
        (("libcufft.so.11",), "libraries of CUDA (libcufft.so.11)"),
        (
            ("libcufft.so.11", "libcublasLt.so.12", "libcurand.so.10", "libnccl.so.2"),
            "CUDA 12 (libcublasLt.so.12, libcufft.so.11, libcurand.so.10 and 1 more)",
        ),
    ],
)
def test_sonames_tell_the_version(sonames: tuple[str, ...], told: str) -> None:
    assert str(lack(*sonames)) == told


def test_a_package_is_named_as_locks_name_it() -> None:
    assert lack("libcudart.so.12").title == "my-kernels 1.2"


def test_each_package_has_a_row_and_what_only_plugins_need_is_not_certain() -> None:
    other = "a-1-cp311-cp311-linux_x86_64.whl"
    rows = cuda_lacks(
        Findings((missing("libcudart.so.12", WHEEL, other), missing("libcudnn.so.9", other, certain=False)), ())
    )
    assert [(row.package, row.cudnn, row.certain) for row in rows] == [("a", "9", True), ("my-kernels", "", True)]
    (row,) = cuda_lacks(Findings((missing("libcudnn.so.9", certain=False),), ()))
    assert not row.certain


def test_other_libraries_are_left_to_the_distribution() -> None:
    found = Findings((missing("libcudart.so.12"), missing("libGL.so.1"), missing("libcups.so.2")), ())
    assert [each.soname for each in without_cuda(found).missing] == ["libGL.so.1", "libcups.so.2"]
    assert len(cuda_lacks(found)) == 1


def test_who_needs_the_driver_is_told() -> None:
    found = Findings((), (missing("libcuda.so.1"), missing("libnvidia-ml.so.1")))
    assert driver_users(found) == (("my-kernels 1.2", ("libcuda.so.1", "libnvidia-ml.so.1")),)
