"""Requests to an OCI registry: oras, with the time limits and errors of our other transfers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import requests
from oras import logger
from oras.container import Container
from oras.provider import Registry

from slurm_factory.exceptions import ConfigurationError
from slurm_factory.fetch.http import (
    CONNECT_TIMEOUT,
    TransferError,
    TransientError,
    classified,
    new_session,
    status_error,
)
from slurm_factory.stores.store import FORBIDDEN, DeniedError
from slurm_factory.util.machine import is_loopback


class Client(Registry):  # type: ignore[misc]
    """A client of one repository, with the credentials of Docker's configuration.

    As Docker does, it speaks plain HTTP with a registry on this machine only.
    """

    def __init__(self, container: Container, timeout: float) -> None:
        logger.setup_logger(quiet=True)
        host = container.registry.partition(":")[0]
        plain = is_loopback(host)
        self._timeouts = (CONNECT_TIMEOUT, timeout)
        begin = f"{'http' if plain else 'https'}://{container.registry}/v2/"
        session = new_session()
        super().__init__(
            hostname=container.registry,
            insecure=plain,
            auth_backend=_kind_of_login(session, begin, self._timeouts),
        )
        self.session = self.auth.session = _limited(session, self._timeouts)
        try:
            self.auth.load_configs(container)
        except (OSError, ValueError, KeyError) as error:
            raise ConfigurationError(
                "Docker's configuration cannot be used.",
                details=f"~/.docker/config.json: {error}.",
                resolution="Correct it, or log in again.",
            ) from error

    def do_request(
        self,
        url: str,
        method: str = "GET",
        data: dict[str, Any] | bytes | None = None,
        headers: dict[str, str] | None = None,
        json: dict[str, Any] | None = None,
        stream: bool = False,
    ) -> requests.Response:
        """As oras does it, but tried once: oras waits for minutes between its tries.

        Raises:
            TransferError: No answer came, or one that tells an error of access or of the server.
        """
        once: Callable[..., requests.Response] = Registry.do_request.__wrapped__
        try:
            response = once(self, url, method, data, headers, json, stream)
        except requests.TooManyRedirects as error:
            raise TransferError("it redirects in circles") from error
        except requests.RequestException as error:
            raise classified(error, self._timeouts) from error
        except (ValueError, KeyError, AttributeError) as error:
            raise DeniedError("HTTP 401: it wants other credentials") from error
        if response.status_code in FORBIDDEN:
            raise DeniedError(f"HTTP {response.status_code} {response.reason}".rstrip())
        failure = status_error(response)
        if isinstance(failure, TransientError):
            raise failure
        return response


def unexpected(response: requests.Response) -> TransferError:
    """The error for an answer that is none of those which the specification has."""
    reason = f"HTTP {response.status_code} {response.reason}".rstrip()
    try:
        told = json.loads(response.content)["errors"][0]["message"]
    except (ValueError, LookupError, TypeError):
        return TransferError(reason)
    return TransferError(f"{reason} ({told})")


def _kind_of_login(session: requests.Session, url: str, timeouts: tuple[float, float]) -> str:
    """Registries with a password file want the password itself, others a token for it."""
    try:
        response = session.get(url, timeout=timeouts)
    except requests.RequestException as error:
        raise classified(error, timeouts) from error
    asked = response.headers.get("WWW-Authenticate", "")
    return "basic" if asked.lower().startswith("basic") else "token"


def _limited(session: requests.Session, timeouts: tuple[float, float]) -> requests.Session:
    """The session with time limits for every request: oras sets none."""
    request = session.request

    def limited(*arguments: Any, **named: Any) -> requests.Response:
        return request(*arguments, **{"timeout": timeouts, **named})

    session.request = limited  # type: ignore[method-assign]
    return session
