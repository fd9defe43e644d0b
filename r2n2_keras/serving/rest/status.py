"""What went wrong with a request: gRPC's status codes, and what HTTP calls them."""

HTTP = {
    "OK": 200,
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}

# The number of each, as TensorFlow's errors carry it.
NUMBERS = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)


class StatusError(Exception):
    """A request that cannot be answered.

    Attributes:
        code: name of the status, a key of `HTTP`.
        message: what the client is told.
    """

    def __init__(self, code: str, message: str):
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


def invalid(message: str) -> StatusError:
    """The error of a request that is the client's mistake."""
    return StatusError("INVALID_ARGUMENT", message)


def of_tensorflow(error) -> StatusError:
    """One of TensorFlow's errors as a `StatusError`."""
    number = error.error_code
    code = NUMBERS[number] if 0 < number < len(NUMBERS) else "UNKNOWN"
    return StatusError(code, str(error.message))
