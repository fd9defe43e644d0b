"""JSON text to Python values, by the library that TensorFlow Serving uses, with its messages.

Objects become dicts (of a key that comes twice the first counts), lists lists, and number tokens
int or float as they are written: 1 is an int, 1.0 and what exceeds 64 bits are floats.
"""

import re

import rapidjson

from r2n2_keras.serving.rest import deep_json
from r2n2_keras.serving.rest.status import StatusError, invalid

# A body of brackets alone would become a hundred times as large; pictures of pixels have a list for
# each pixel, which this leaves ample room for.
MAX_CONTAINERS = 4_000_000

_ERROR = re.compile(r"Parse error at offset (\d+): (.*)", re.DOTALL)
_FOLLOWED = "The document root must not be followed by other values."
_BOM = b"\xef\xbb\xbf"


class _Decoder(rapidjson.Decoder):
    """Takes the first of equal keys, as TensorFlow Serving finds it."""

    def start_object(self):
        return []

    def end_object(self, members):
        value = dict(members)
        if len(value) < len(members):
            value = dict(reversed(members))
        return value


_decode = _Decoder(number_mode=rapidjson.NM_NATIVE | rapidjson.NM_NAN)


def parse(text: bytes, expired=lambda: False):
    """The first value of a text; what follows it is ignored.

    Args:
        text: JSON. Bytes of strings that are not UTF-8 come out as lone surrogates.
        expired: tells whether the time for this is over; asked now and then.

    Raises:
        StatusError: it is not JSON, or too much of it.
    """
    if not text:
        raise invalid("JSON Parse error: The document is empty")
    if text.count(b"[") + text.count(b"{") > MAX_CONTAINERS:
        raise invalid(f"JSON Parse error: More than {MAX_CONTAINERS} lists and objects.")
    skipped = len(_BOM) if text.startswith(_BOM) else 0
    try:
        return _parse(text[skipped:] if skipped else text, expired)
    except deep_json.ParseError as error:
        raise _error(error.message, error.offset + skipped) from None


def _error(message, offset) -> StatusError:
    return invalid(f"JSON Parse error: {message} at offset: {offset}")


def _parse(text, expired):
    try:
        return _decode(text)
    except rapidjson.JSONDecodeError as error:
        offset, message = _ERROR.match(str(error)).groups()
        offset = int(offset)
        if message != _FOLLOWED:
            raise deep_json.ParseError(message, offset) from None
        return _parse(text[:offset], expired)
    except UnicodeDecodeError as error:
        return _parse_not_unicode(text, error.start, expired)
    except RecursionError:
        return deep_json.parse(text, expired)


def _parse_not_unicode(text, valid, expired):
    """Parses text of which the first `valid` bytes are UTF-8 and the next is not."""
    try:
        return _decode(text[:valid])
    except rapidjson.JSONDecodeError as error:
        offset, message = _ERROR.match(str(error)).groups()
        if message == _FOLLOWED:
            return _parse(text[: int(offset)], expired)
    except RecursionError:
        pass
    return deep_json.parse(text, expired)
