"""What goes wrong: TensorFlow's own exceptions, which carry gRPC's codes, and HTTP's for them."""

import tensorflow as tf
from tensorflow.core.protobuf import error_codes_pb2

# What is not here is 500.
_HTTP = {
    "CANCELLED": 499,
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
    "UNAVAILABLE": 503,
    "UNAUTHENTICATED": 401,
}


def error(code: str, message: str) -> tf.errors.OpError:
    number = error_codes_pb2.Code.Value(code)
    return tf.compat.v1.errors.exception_type_from_error_code(number)(None, None, message)


def invalid(message: str) -> tf.errors.OpError:
    """The error of a request that is the client's mistake."""
    return error("INVALID_ARGUMENT", message)


def of(problem: Exception) -> tf.errors.OpError:
    """Any exception as one with a code."""
    if isinstance(problem, tf.errors.OpError):
        return problem
    return error("UNKNOWN", f"{type(problem).__name__}: {problem}")


def name(problem: tf.errors.OpError) -> str:
    return error_codes_pb2.Code.Name(problem.error_code)


def http(problem: tf.errors.OpError) -> int:
    return _HTTP.get(name(problem), 500)
