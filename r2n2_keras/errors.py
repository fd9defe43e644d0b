"""What a user sees of an error: one line."""


class InputError(ValueError):
    """Something given by the user cannot be used.

    The message says what was expected, what was received and what to do. Commands print it as
    one line on standard error and exit with code 1.
    """


def reason(error) -> str:
    """The message of one of TensorFlow's errors, without the names of its graph nodes."""
    return str(error.message).split("}} ")[-1].split("\n")[0].split(" [Op:")[0]
