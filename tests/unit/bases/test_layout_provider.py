from __future__ import annotations

from pathlib import Path

import pytest

from nb2image.bases.layout import LayoutProvider
from nb2image.bases.model import Provider
from nb2image.cache import Store
from nb2image.errors import NotAnImage
from nb2image.image.archive import write_archive
from nb2image.image.layout import write_layout
from nb2image.image.model import Image
from nb2image.progress import Silent
from nb2image.target.model import Platform
from tests.unit.bases.test_facts import DEBIAN, slim
from tests.unit.image.making import files_of, image_of, put_index, small_image

AMD64 = Platform("linux", "amd64")


def debian() -> Image:
    return image_of(files_of(DEBIAN))


def test_the_only_image_of_an_archive_is_a_base(tmp_path: Path) -> None:
    write_archive(debian(), ["registry.example/python:3.11"], tmp_path / "base.tar", Silent())
    provider: Provider = LayoutProvider(tmp_path / "base.tar", AMD64, Store(tmp_path / "cache"))
    (candidate,) = provider.candidates()
    assert candidate.name == str(tmp_path / "base.tar")
    assert candidate.target.minor == "3.11"
    assert candidate.size == debian().layers[0].descriptor.size
    base = provider.deliver(candidate, Silent())
    assert base.image.digest == debian().digest
    assert base.target == candidate.target
    assert base.reference == "registry.example/python:3.11"


def test_every_image_of_a_layout_that_has_python_is_a_base(tmp_path: Path) -> None:
    for tag, image in (("bookworm", debian()), ("data", small_image()), ("slim", image_of(files_of(slim())))):
        write_layout(image, [tag], tmp_path / "bases", Silent())
    candidates = LayoutProvider(tmp_path / "bases", AMD64).candidates()
    assert {candidate.name: candidate.target.minor for candidate in candidates} == {
        f"{tmp_path}/bases:bookworm:latest": "3.11",
        f"{tmp_path}/bases:slim:latest": "3.12",
    }


def test_a_name_after_the_path_chooses_one(tmp_path: Path) -> None:
    for tag, image in (("bookworm", debian()), ("slim", image_of(files_of(slim())))):
        write_layout(image, [tag], tmp_path / "bases", Silent())
    provider = LayoutProvider(f"{tmp_path}/bases:slim", AMD64)
    (candidate,) = provider.candidates()
    assert candidate.target.minor == "3.12"
    assert provider.deliver(candidate, Silent()).reference == "docker.io/library/slim:latest"


@pytest.mark.parametrize(("tag", "reference"), [(None, "latest"), ("3.11", "3.11"), ("no name !", "latest")])
def test_an_image_without_a_name_is_called_after_its_file(tmp_path: Path, tag: str | None, reference: str) -> None:
    write_layout(debian(), [], tmp_path / "My Base", Silent())
    row = debian().descriptor.document()
    if tag is not None:
        row["annotations"] = {"org.opencontainers.image.ref.name": tag}
    provider = LayoutProvider(put_index(tmp_path / "My Base", [row]), AMD64)
    assert provider.deliver(provider.candidates()[0], Silent()).reference == f"localhost/my-base:{reference}"


def test_what_can_be_no_base_is_refused_with_every_reason(tmp_path: Path) -> None:
    write_layout(small_image("1"), ["a"], tmp_path / "bases", Silent())
    with pytest.raises(NotAnImage, match="has no Python"):
        LayoutProvider(tmp_path / "bases", AMD64).candidates()
    write_layout(small_image("2"), ["b"], tmp_path / "bases", Silent())
    with pytest.raises(NotAnImage, match="None of the 2 images") as caught:
        LayoutProvider(tmp_path / "bases", AMD64).candidates()
    assert len(caught.value.details) == 2


def test_nothing_is_read_before_candidates_are_asked_for(tmp_path: Path) -> None:
    provider = LayoutProvider(tmp_path / "none", AMD64)
    with pytest.raises(NotAnImage, match="There is nothing at"):
        provider.candidates()


def test_a_base_for_another_platform_is_refused(tmp_path: Path) -> None:
    write_layout(debian(), ["a"], tmp_path / "bases", Silent())
    with pytest.raises(NotAnImage, match="no image for linux/arm64"):
        LayoutProvider(tmp_path / "bases", Platform("linux", "arm64")).candidates()
