"""Proxies of the environment."""

from slurm_factory.proxies import proxies


def test_either_spelling_is_read_and_the_lower_case_one_wins() -> None:
    environ = {"HTTPS_PROXY": "http://b:1", "http_proxy": "http://a:1", "HTTP_PROXY": "http://c:1"}
    assert proxies(environ) == {"http_proxy": "http://a:1", "https_proxy": "http://b:1"}


def test_an_empty_variable_is_no_proxy() -> None:
    assert proxies({"http_proxy": "", "no_proxy": "localhost", "PATH": "/bin"}) == {
        "no_proxy": "localhost"
    }
