"""The proxies of instances."""

import pytest
from launch_samples import MADE_HERE, SETUP

from slurm_factory.config import Settings
from slurm_factory.exceptions import ConfigurationError
from slurm_factory.instances.network import both_spellings, find_network


def test_proxies_are_passed_on_in_both_spellings_and_nothing_else_is() -> None:
    environ = {"HTTP_PROXY": "http://p:1", "https_proxy": "http://q:2", "NO_PROXY": "", "A": "b"}
    assert both_spellings(environ) == {
        "http_proxy": "http://p:1",
        "HTTP_PROXY": "http://p:1",
        "https_proxy": "http://q:2",
        "HTTPS_PROXY": "http://q:2",
    }


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"http_proxy": "http://p:1", "https_proxy": "http://127.0.0.1:3128"}, "https_proxy"),
        ({"https_proxy": "http://p:1", "HTTP_PROXY": "localhost:3128"}, "http_proxy"),
        ({"ftp_proxy": "[::1]:3128"}, "ftp_proxy"),
    ],
)
def test_no_proxy_may_be_one_that_no_instance_can_reach(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], named: str
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match="cannot reach") as caught:
        find_network(SETUP, "x86_64", MADE_HERE, settings)
    assert caught.value.details.startswith(named)


def test_a_proxy_without_a_host_is_a_mistake_whose_text_is_not_shown(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://geheim@")
    with pytest.raises(ConfigurationError) as caught:
        find_network(SETUP, "x86_64", MADE_HERE, settings)
    assert "geheim" not in f"{caught.value} {caught.value.details} {caught.value.resolution}"


def test_an_instance_is_ready_when_it_can_resolve_a_proxy_without_a_scheme(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "proxy.example:3128")
    monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")
    assert find_network(SETUP, "x86_64", MADE_HERE, settings).reach == "proxy.example"
