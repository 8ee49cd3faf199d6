"""How the service says no: a status and a sentence, in the form that the path's clients read.

Under /v1/ that is the OpenAI API's envelope, elsewhere {"error": "..."}.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from backend.records import InputError
from backend.worker.completions import UnknownModel
from backend.worker.forms import FieldError
from backend.worker.intake import Late
from backend.worker.protocol import Busy

MAX_MESSAGE = 2000  # characters of a refusal
_CODES = {401: "invalid_api_key", 403: "forbidden", 404: "not_found", 408: "timeout", 429: "rate_limit_exceeded"}
VERSIONED = "/v1/"


def refusal(
    request: Request, status: int, message: str, *, param: str | None = None, code: str | None = None, retry: int = 0
) -> JSONResponse:
    """A sentence, cut where it repeats too much of what was sent, with halves of surrogate pairs spelled out."""
    message = message.encode(errors="backslashreplace").decode()
    message = message if len(message) <= MAX_MESSAGE else f"{message[: MAX_MESSAGE - 3]}..."
    said: Any = message
    if request.url.path.startswith(VERSIONED):
        kind = "rate_limit_error" if status == 429 else "invalid_request_error" if status < 500 else "server_error"
        said = {"message": message, "type": kind, "param": param, "code": code or _CODES.get(status)}
    headers = {"Retry-After": str(retry)} if retry else {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"error": said}, status_code=status, headers=headers)


def refused(request: Request, error: Exception) -> Response:
    """What an error of a request comes to. Raises it again where it is none of a request."""
    match error:
        case UnknownModel():
            return refusal(request, 404, str(error), param="model", code="model_not_found")
        case FieldError():
            return refusal(request, _unsound(request), str(error), param=error.field or None)
        case InputError():
            return refusal(request, _unsound(request), str(error))
        case Late():
            return refusal(request, 408, str(error))
        case ClientDisconnect():
            return Response(status_code=400)  # nobody is there to read it
        case Busy():
            return refusal(request, error.status, str(error), retry=error.retry)
    raise error


def _unsound(request: Request) -> int:
    return 400 if request.url.path.startswith(VERSIONED) else 422


def host_of(request: Request) -> str:
    """Who asks, where nothing better is known."""
    return request.client.host if request.client else ""
