"""The one exception that a user sees: bad input, told in one line."""


class InputError(ValueError):
    """Something given by the user cannot be used.

    The message says what was expected, what was received and what to do. Commands print it as
    one line on standard error and exit with code 1.
    """
