"""How variables and arguments become the server's configuration, and the one line that says where it is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from nb2image.runtime import jupyter


def server(variables: dict[str, str]) -> dict[str, Any]:
    section: dict[str, Any] = jupyter.settings(variables, "a.ipynb", [])["ServerApp"]
    return section


def address(**changes: Any) -> str:
    app = {
        "ip": "0.0.0.0",
        "port": 8888,
        "base_url": "/",
        "default_url": "/lab/tree/a.ipynb",
        "certfile": "",
        "identity_provider": SimpleNamespace(token="t+k"),
        **changes,
    }
    return jupyter.url(SimpleNamespace(**app))


def test_a_token_is_made_where_none_is_given_and_never_twice_the_same() -> None:
    first, second = (jupyter.settings({}, "a.ipynb", [])["IdentityProvider"]["token"] for _ in range(2))
    assert first != second
    assert len(first) == 48


def test_a_given_token_is_used() -> None:
    assert jupyter.settings({"JUPYTER_TOKEN": "mine"}, "a.ipynb", [])["IdentityProvider"] == {"token": "mine"}


def test_an_empty_token_does_not_open_the_server_to_everybody() -> None:
    assert jupyter.settings({"JUPYTER_TOKEN": ""}, "a.ipynb", [])["IdentityProvider"]["token"]


@pytest.mark.parametrize("argument", ["--IdentityProvider.token=x", "--ServerApp.token=", "--NotebookApp.token=''"])
def test_a_token_on_the_command_line_is_left_to_the_server(argument: str) -> None:
    assert "IdentityProvider" not in jupyter.settings({"JUPYTER_TOKEN": "mine"}, "a.ipynb", [argument])


def test_a_token_file_is_left_to_the_server() -> None:
    assert "IdentityProvider" not in jupyter.settings({"JUPYTER_TOKEN_FILE": "/run/secrets/t"}, "a.ipynb", [])


def test_the_notebook_is_opened_whatever_its_name() -> None:
    config = jupyter.settings({}, "dir/näme #1.ipynb", [])
    assert config["LabApp"]["default_url"] == "/lab/tree/dir/n%C3%A4me%20%231.ipynb"


@pytest.mark.parametrize("name", ["JUPYTER_PORT", "NOTEBOOK_PORT", "JUPYTER_NOTEBOOK_PORT"])
def test_a_port_is_taken_from_each_of_the_variables(name: str) -> None:
    assert server({name: "9000"})["port"] == 9000


def test_the_address_that_kubernetes_sets_for_a_service_is_no_port() -> None:
    assert server({"NOTEBOOK_PORT": "tcp://10.0.0.1:80"})["port"] == 8888


@pytest.mark.parametrize("value", ["x", "0", "65536", "-1"])
def test_a_port_that_is_none_is_refused_by_its_variable(value: str) -> None:
    with pytest.raises(ValueError, match="JUPYTER_PORT"):
        jupyter.port({"JUPYTER_PORT": value})


@pytest.mark.parametrize(("given", "used"), [("", "/"), ("/", "/"), ("nb/x", "/nb/x/"), ("/nb/x/", "/nb/x/")])
def test_a_base_url_has_a_slash_on_both_ends(given: str, used: str) -> None:
    assert server({"NOTEBOOK_BASE_URL": given})["base_url"] == used


def test_the_server_listens_on_every_interface_unless_told_otherwise() -> None:
    assert server({})["ip"] == "0.0.0.0"
    assert server({"JUPYTER_NOTEBOOK_INTERFACE": "127.0.0.2"})["ip"] == "127.0.0.2"


def test_the_address_opens_the_notebook_with_its_token() -> None:
    assert address() == "http://127.0.0.1:8888/lab/tree/a.ipynb?token=t%2Bk"


def test_the_address_has_the_prefix_once_whether_the_server_put_it_there_or_not() -> None:
    wanted = "http://127.0.0.1:8888/nb/lab/tree/a.ipynb?token=t%2Bk"
    assert address(base_url="/nb/") == wanted
    assert address(base_url="/nb/", default_url="/nb/lab/tree/a.ipynb") == wanted


def test_the_address_without_a_token_has_no_query() -> None:
    assert address(identity_provider=SimpleNamespace(token="")).endswith("/a.ipynb")


def test_an_interface_and_tls_appear_in_the_address() -> None:
    assert address(ip="10.0.0.5", certfile="/c.pem").startswith("https://10.0.0.5:8888/")


def test_jupyterhubs_variables_win_and_the_missing_ones_are_filled_in() -> None:
    variables = {"JUPYTERHUB_SERVICE_PREFIX": "/user/a/"}
    jupyter.hub_settings(variables, "a.ipynb")
    assert variables["JUPYTERHUB_SERVICE_URL"] == "http://0.0.0.0:8888/user/a/"
    assert variables["JUPYTERHUB_DEFAULT_URL"] == "/lab/tree/a.ipynb"
    given = {**variables, "JUPYTERHUB_SERVICE_URL": "http://:1/", "JUPYTERHUB_DEFAULT_URL": "/lab"}
    jupyter.hub_settings(given, "a.ipynb")
    assert (given["JUPYTERHUB_SERVICE_URL"], given["JUPYTERHUB_DEFAULT_URL"]) == ("http://:1/", "/lab")
