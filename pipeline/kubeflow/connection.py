"""The connection to a Kubeflow Pipelines API server: address, token, pages of lists, and its errors in words."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import re
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from preprocessing.errors import AutotagError, BadInputError

HOST_VARIABLE: Final = "KF_PIPELINES_ENDPOINT"
"""kfp's own environment variable for the API's address."""
TIMEOUT_SECONDS: Final = 10
PAGE: Final = 100


@dataclass(frozen=True)
class Token:
    """Where a bearer token is; one of the two is given. The token itself is in no message.

    Attributes:
        variable: name of an environment variable.
        file: read for each request, since Kubernetes renews a service account's token in its file.
    """

    variable: str | None = None
    file: str | None = None

    def read(self) -> str:
        """Return the token.

        Raises:
            BadInputError: it is not there, or is no token.
        """
        if self.file:
            try:
                text, where = Path(self.file).read_text(encoding="utf-8"), f"file {self.file}"
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "it is no text"
                raise BadInputError(f"the token's file {self.file}: {reason}") from None
        else:
            text, where = os.environ.get(str(self.variable), ""), f"variable {self.variable}"
        token = text.strip()
        if not token:
            raise BadInputError(f"the {where} holds no token")
        if not re.fullmatch(r"[!-~]+", token):  # a client that refuses it would print it
            raise BadInputError(f"the {where} holds something else than a token: blanks, or letters beyond ASCII")
        return token

    def refresh_api_key_hook(self, configuration: Any) -> None:
        """Put the token into the client's configuration; kfp calls this before each request.

        Raises:
            BadInputError: it is not there, or is no token.
        """
        configuration.api_key["authorization"] = self.read()


class UnknownExperimentError(BadInputError):
    """The server has no experiment of that name."""


class NoAnswerError(AutotagError):
    """The server is away, perhaps for a moment."""


class Connection:
    """A connected Kubeflow Pipelines API server, over kfp.Client."""

    def __init__(self, host: str | None, namespace: str | None = None, token: Token | None = None) -> None:
        """Connect.

        Args:
            host: address of the API; else HOST_VARIABLE.
            namespace: of runs and pipelines, in multi-user mode.
            token: sent with each request.

        Raises:
            BadInputError: no address is given, or the token cannot be read.
            AutotagError: nothing answers there.
        """
        self.host = (host or os.environ.get(HOST_VARIABLE) or "").rstrip("/")
        if not self.host:
            raise BadInputError(
                f"no address of a Kubeflow Pipelines API: give --host, kubeflow.host or {HOST_VARIABLE}, such as "
                "http://localhost:8888 after `kubectl -n kubeflow port-forward svc/ml-pipeline 8888`"
            )
        self._namespace = namespace
        self._specs: dict[str, dict[str, Any]] = {}
        _check_answers(self.host, token)
        with self._readable_errors("connect"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # kfp says with which servers it works
            import kfp

            self._client = kfp.Client(host=self.host, namespace=namespace or "kubeflow", credentials=token)

    @contextlib.contextmanager
    def _readable_errors(self, doing: str) -> Iterator[None]:
        """Turn the client's errors into one message each, and keep what it prints."""
        import kfp_server_api  # type: ignore[import-untyped]
        import urllib3

        try:
            with contextlib.redirect_stdout(io.StringIO()):
                yield
        except kfp_server_api.ApiException as error:
            kind = NoAnswerError if error.status in (502, 503, 504) else AutotagError
            raise kind(f"{self.host} refused to {doing}: {error_message(error)}") from None
        except (urllib3.exceptions.HTTPError, TimeoutError) as error:
            raise NoAnswerError(f"{self.host} stopped answering while it was asked to {doing}: {error}") from None
        except ValueError as error:  # kfp's own, such as two pipelines of one name
            raise AutotagError(f"{self.host} cannot be asked to {doing}: {error}") from None

    def _pages(self, list_: Any, key: str, **arguments: Any) -> list[Any]:
        return list(self._iterate(list_, key, **arguments))

    def _iterate(self, list_: Any, key: str, page_size: int = PAGE, **arguments: Any) -> Iterator[Any]:
        token = ""
        while True:
            page = list_(page_token=token, page_size=page_size, **arguments)
            yield from getattr(page, key) or []
            token = page.next_page_token
            if not token:
                return

    def _experiment_id(self, name: str) -> str:
        with self._readable_errors(f"look for the experiment {name}"):
            try:
                found = self._client.get_experiment(experiment_name=name, namespace=self._namespace)
                return str(found.experiment_id)
            except ValueError:
                known = self._pages(self._client.list_experiments, "experiments", namespace=self._namespace)
        listed = ", ".join(sorted(experiment.display_name for experiment in known)) or "none"
        raise UnknownExperimentError(f"{self.host} has no experiment {name!r}; it has {listed}")


def _check_answers(host: str, token: Token | None) -> None:
    """Raise AutotagError where nothing answers, or a web page; an answer that asks for a login is one."""
    authorization = f"Bearer {token.read()}" if token else None
    try:
        request = urllib.request.Request(f"{host}/apis/v2beta1/healthz")
        if authorization:
            request.add_unredirected_header("Authorization", authorization)
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            data = answer.read()
    except urllib.error.HTTPError as error:
        if error.code >= 500 or error.code == 404:
            raise AutotagError(f"{host} answers {error.code} {error.reason}: is it a Kubeflow Pipelines API?") from None
        return
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise AutotagError(f"{host} does not answer ({reason}): is it right, and the server up?") from None
    try:
        json.loads(data)
    except ValueError:
        raise AutotagError(
            f"{host} answers with something else than JSON: is it a Kubeflow Pipelines API, or a page that asks for a "
            "login before it?"
        ) from None


def error_message(error: Any) -> str:
    """Say what the server said: the words of kfp_server_api.ApiException, without headers, stack and web pages."""
    try:
        body: Any = json.loads(error.body)
    except (TypeError, ValueError):
        body = error.body or ""
    if not isinstance(body, dict):
        text = "" if "<html" in str(body).lower() else body
        return f"{error.status} {error.reason} {text}".strip()
    message = body.get("message") or body.get("error_message") or body.get("error") or error.reason
    return f"{' '.join(str(message).split())} ({error.status} {error.reason})"
