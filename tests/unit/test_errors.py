from __future__ import annotations

import json

import pytest

from service import errors
from service.errors import InvalidRequestError, QueueUnavailableError, ServiceError
from service.gateway.errors import error_response

CLASSES = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, ServiceError)
]


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_knows_how_it_is_told_to_a_client(error: type[ServiceError]) -> None:
    assert 400 <= error.status < 600
    client_fault = error.status < 500
    assert error.type == ("invalid_request_error" if client_fault else "server_error")
    assert error.code


def test_a_client_sees_openais_shape() -> None:
    response = error_response(InvalidRequestError("No.", param="model", code="odd"))
    assert response.status_code == 400
    assert json.loads(bytes(response.body)) == {
        "error": {
            "message": "No.",
            "type": "invalid_request_error",
            "param": "model",
            "code": "odd",
        }
    }


def test_a_client_is_told_when_to_try_again() -> None:
    assert error_response(QueueUnavailableError()).headers["retry-after"] == "2"
