"""Proxies of the environment."""

import pytest

from slurm_factory.util.machine import is_loopback, proxies, proxy_host


def test_either_spelling_is_read_and_the_lower_case_one_wins() -> None:
    environ = {"HTTPS_PROXY": "http://b:1", "http_proxy": "http://a:1", "HTTP_PROXY": "http://c:1"}
    assert proxies(environ) == {"http_proxy": "http://a:1", "https_proxy": "http://b:1"}


def test_an_empty_variable_is_not_a_proxy() -> None:
    assert proxies({"http_proxy": "", "no_proxy": "localhost", "PATH": "/bin"}) == {
        "no_proxy": "localhost"
    }


@pytest.mark.parametrize(
    ("proxy", "host"),
    [
        ("http://proxy.example:3128", "proxy.example"),
        ("proxy.example:3128", "proxy.example"),
        ("user:p@ss@proxy.example:3128/", "proxy.example"),
        ("socks5h://[::1]:1080", "::1"),
        ("[::1]:3128", "::1"),
        ("http://", None),
        ("http://[::1", None),
    ],
)
def test_the_host_of_a_proxy_is_found_with_and_without_a_scheme(
    proxy: str, host: str | None
) -> None:
    assert proxy_host(proxy) == host


@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost.", "proxy.localhost", "127.0.0.1", "127.1", "::1", "0.0.0.0"]
)
def test_every_name_of_this_machine_for_itself_is_known(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["10.0.0.1", "proxy.example", "127.example", "fe80::1"])
def test_the_address_of_another_machine_is_not_taken_for_this_one(host: str) -> None:
    assert not is_loopback(host)
