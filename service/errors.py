"""The service's one error tree; every message is one sentence.

Each class carries what the gateway's single handler maps: HTTP status, OpenAI's error type, a code.
"""

from __future__ import annotations

from collections.abc import Collection


class ServiceError(Exception):
    """Anything that the service tells a client or an operator in one sentence."""

    status = 500
    type = "server_error"
    code = "internal_error"
    retry_after_s: float | None = None
    """When it makes sense to try again; told to clients as `Retry-After`."""


class InvalidRequestError(ServiceError):
    """The request cannot be understood or asks for something impossible."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_request"

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        if code is not None:
            self.code = code


class ModelNotFoundError(ServiceError):
    """No model of that name is registered."""

    status = 404
    type = "invalid_request_error"
    code = "model_not_found"

    def __init__(self, name: str, known: list[str]) -> None:
        there = ", ".join(known) or "none yet"
        super().__init__(f"The model {name!r} does not exist; models: {there}.")


class JobNotFoundError(ServiceError):
    """No job has that id."""

    status = 404
    type = "invalid_request_error"
    code = "job_not_found"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"The job {job_id!r} does not exist; GET /compress lists all jobs.")


class ReportNotFoundError(ServiceError):
    """There is no report to show."""

    status = 404
    type = "invalid_request_error"
    code = "report_not_found"

    def __init__(self, what: str) -> None:
        super().__init__(
            f"There is no report of {what}: only finished compressions whose checkpoint is on this "
            "machine have one."
        )


class JobNodeError(ServiceError):
    """The process of a job, or the machine that it ran on, was lost."""

    status = 500
    code = "job_node_lost"


class NameTakenError(ServiceError):
    """The name asked for a compressed model is in use."""

    status = 409
    type = "invalid_request_error"
    code = "name_taken"

    def __init__(self, name: str) -> None:
        super().__init__(f"The name {name!r} is taken by a model or a running job; choose another.")


class ModelRetiredError(ServiceError):
    """The model was taken out of service."""

    status = 410
    type = "invalid_request_error"
    code = "model_retired"

    def __init__(self, name: str) -> None:
        super().__init__(f"The model {name!r} was retired; GET /v1/models lists those that answer.")


class ModelInUseError(ServiceError):
    """The model cannot be retired, deleted or replaced now."""

    status = 409
    type = "invalid_request_error"
    code = "model_in_use"


class AliasNotFoundError(ServiceError):
    """There is no alias of that name."""

    status = 404
    type = "invalid_request_error"
    code = "alias_not_found"

    def __init__(self, name: str, known: list[str]) -> None:
        there = ", ".join(known) or "none yet"
        super().__init__(
            f"The alias {name!r} does not exist; aliases: {there}; `infoprune alias set` makes one, "
            "as does `alias canary` with --original."
        )


class AliasStateError(ServiceError):
    """The change does not go with what the alias is doing."""

    status = 409
    type = "invalid_request_error"
    code = "alias_state"


class UnknownTargetError(ServiceError):
    """An alias would point to a model that cannot be asked."""

    status = 400
    type = "invalid_request_error"
    code = "unknown_target"

    def __init__(self, model: str, active: Collection[str]) -> None:
        there = ", ".join(sorted(active)) or "none yet"
        super().__init__(f"The model {model!r} is not registered or was retired; models: {there}.")


class EvaluationNotFoundError(ServiceError):
    """No evaluation has that id."""

    status = 404
    type = "invalid_request_error"
    code = "evaluation_not_found"

    def __init__(self, evaluation_id: str) -> None:
        super().__init__(
            f"The evaluation {evaluation_id!r} does not exist; GET /evaluations lists all."
        )


class IdempotencyError(ServiceError):
    """An idempotency key came again with another request."""

    status = 422
    type = "invalid_request_error"
    code = "idempotency_key_reused"

    def __init__(self, key: str) -> None:
        super().__init__(
            f"The idempotency key {key!r} was used for another request; choose a new one."
        )


class BodyTooLargeError(ServiceError):
    """The request body is over the limit."""

    status = 413
    type = "invalid_request_error"
    code = "body_too_large"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The request body is over the limit of {limit_bytes} bytes.")


class AuthenticationError(ServiceError):
    """No key, or one that is unknown, revoked or expired."""

    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"


class ScopeError(ServiceError):
    """The key is valid, but not for this."""

    status = 403
    type = "invalid_request_error"
    code = "insufficient_scope"

    def __init__(self, scope: str) -> None:
        super().__init__(f"This API key does not have the scope {scope!r}, which this needs.")


class ForeignOriginError(ServiceError):
    """A web page asks a gateway that serves without keys."""

    status = 403
    type = "invalid_request_error"
    code = "foreign_origin"

    def __init__(self) -> None:
        super().__init__("Without API keys this gateway serves programs of its own machine only.")


class RateLimitError(ServiceError):
    """A key asked more than it may."""

    status = 429
    type = "invalid_request_error"
    code = "rate_limit_exceeded"

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class OverloadedError(ServiceError):
    """The gateway holds as much as it may; the request was not begun."""

    status = 503
    type = "server_error"
    code = "overloaded"
    retry_after_s = 2.0


class DrainingError(ServiceError):
    """The gateway is about to stop."""

    status = 503
    type = "server_error"
    code = "shutting_down"
    retry_after_s = 2.0

    def __init__(self) -> None:
        super().__init__("The gateway is shutting down; try again.")


class RequestTimeoutError(ServiceError):
    """The client's own request did not arrive in time."""

    status = 408
    type = "invalid_request_error"
    code = "request_timeout"

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"The request's body did not arrive within {limit_s:g} s.")


class WorkerNotReadyError(ServiceError):
    """The model exists, but none of its workers can answer yet."""

    status = 503
    type = "server_error"
    code = "model_not_ready"
    retry_after_s = 2.0

    def __init__(self, name: str, reason: str | None = None) -> None:
        super().__init__(
            f"No worker of model {name!r} is ready: {reason or 'it is starting'}; try again soon."
        )


class QueueUnavailableError(ServiceError):
    """Redis is away; models are still served, jobs cannot be queued or read."""

    status = 503
    type = "server_error"
    code = "queue_unavailable"
    retry_after_s = 2.0

    def __init__(self) -> None:
        super().__init__("Redis cannot be reached, so jobs are unavailable; try again soon.")


class UpstreamError(ServiceError):
    """A worker broke off or did not answer."""

    status = 502
    type = "server_error"
    code = "upstream_error"

    def __init__(self, model: str) -> None:
        super().__init__(f"The worker of model {model!r} broke off; try again.")


class UpstreamTimeoutError(ServiceError):
    """A worker took too long."""

    status = 504
    type = "server_error"
    code = "upstream_timeout"

    def __init__(self, model: str, limit_s: float) -> None:
        super().__init__(f"The worker of model {model!r} did not answer within {limit_s:g} s.")
