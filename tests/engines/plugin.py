"""Fixtures of real engines, for every folder of tests that runs images (``pytest_plugins`` of tests/conftest.py)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

import pytest

from tests.engines import daemons
from tests.engines.daemons import Daemon, Unavailable

T = TypeVar("T")


def in_ci() -> bool:
    """Whether everything that tests need has to be there."""
    return os.environ.get("NB2IMAGE_CI") == "1"


def available_value(make: Callable[[], T]) -> T:
    """What ``make`` returns; where it is unavailable, as `available`."""
    try:
        return make()
    except Unavailable as error:
        if in_ci():
            pytest.fail(f"needed in CI: {error}")
        pytest.skip(str(error))


@contextlib.contextmanager
def available(context: AbstractContextManager[T]) -> Iterator[T]:
    """Enter ``context``; where it is unavailable, skip with the reason, or fail when ``NB2IMAGE_CI`` is 1."""
    with contextlib.ExitStack() as stack:
        yield available_value(lambda: stack.enter_context(context))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI, a skipped test of this folder is a failed one."""
    report = yield
    here = Path(__file__).parent
    if report.skipped and not hasattr(report, "wasxfail") and in_ci() and here in item.path.parents:
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow here: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def docker_daemon() -> Iterator[Daemon]:
    """Docker Engine, private to this session."""
    with available(daemons.dockerd()) as daemon:
        yield daemon


@pytest.fixture(scope="session")
def podman_daemon() -> Iterator[Daemon]:
    """podman with storage of its own, private to this session."""
    with available(daemons.podman()) as daemon:
        yield daemon


@pytest.fixture(scope="session", params=["docker", "podman"])
def engine_daemon(request: pytest.FixtureRequest) -> Daemon:
    """Each engine in turn."""
    found = request.getfixturevalue(f"{request.param}_daemon")
    assert isinstance(found, Daemon)
    return found


@pytest.fixture
def engine(engine_daemon: Daemon, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Daemon:
    """Each engine in turn; for the test's duration it is the one that nb2image finds."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "CONTAINER_HOST"):
        monkeypatch.delenv(name, raising=False)
    if engine_daemon.name == "podman":
        # A Docker that this machine has would be found first: a context that is not there stands before its sockets.
        settings = tmp_path_factory.mktemp("docker-settings")
        (settings / "config.json").write_text('{"currentContext": "none"}')
        monkeypatch.setenv("DOCKER_CONFIG", str(settings))
    for name, value in engine_daemon.environment.items():
        monkeypatch.setenv(name, value)
    return engine_daemon


@pytest.fixture(scope="session")
def registry() -> Iterator[str]:
    """A registry on loopback, as ``127.0.0.1:PORT``."""
    with available(daemons.registry()) as address:
        yield address
