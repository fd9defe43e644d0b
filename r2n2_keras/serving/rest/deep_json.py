"""A JSON parser without recursion, for what the fast one refuses: great depth, bytes not UTF-8."""

import re

# Values of such depth are legal but hardly meant; each level takes about a hundred bytes.
MAX_DEPTH = 1_000_000

_SPACE = re.compile(rb"[ \t\r\n]*")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_INTEGER = re.compile(rb"-?(?:0|[1-9][0-9]*)")
_FRACTION = re.compile(rb"\.[0-9]+")
_EXPONENT = re.compile(rb"[eE][+-]?[0-9]+")
_NOT_FINITE = re.compile(rb"-?(?:NaN|Inf(?:inity)?)")
_HEX = re.compile(rb"[0-9a-fA-F]{4}")
_WORDS = ((b"null", None), (b"true", True), (b"false", False))
_ESCAPES = {
    b'"': b'"', b"\\": b"\\", b"/": b"/", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r",
    b"t": b"\t",
}  # fmt: skip
_MISSING = {
    list: "Missing a comma or ']' after an array element.",
    dict: "Missing a comma or '}' after an object member.",
}
_LOOK_AT_CLOCK_EVERY = 4096


class ParseError(Exception):
    """A text that is not JSON: `message`, and `offset` in bytes."""

    def __init__(self, message, offset):
        super().__init__(message)
        self.message = message
        self.offset = offset


def parse(text: bytes, expired=lambda: False):
    """The first value of a text, as `json_text.parse` gives it.

    Raises:
        ParseError: it is not JSON.
        TimeoutError: `expired` says that the time is over.
    """
    stack, key, keys, steps = [], None, [], 0
    at = _skip(text, 0)
    if at == len(text):
        raise ParseError("The document is empty.", at)
    while True:
        steps += 1
        if steps % _LOOK_AT_CLOCK_EVERY == 0 and expired():
            raise TimeoutError
        first = text[at : at + 1]
        if first in (b"[", b"{"):
            if len(stack) == MAX_DEPTH:
                raise ParseError(f"More than {MAX_DEPTH} levels.", at)
            value, closing = ([], b"]") if first == b"[" else ({}, b"}")
            at = _skip(text, at + 1)
            if text[at : at + 1] != closing:
                stack.append(value)
                keys.append(key)
                if first == b"{":
                    key, at = _key(text, at)
                continue
            at += 1
        else:
            value, at = _scalar(text, at)
        # The value is whole: it goes into what is open, which may end with it.
        while stack:
            parent = stack[-1]
            if type(parent) is list:
                parent.append(value)
            else:
                parent.setdefault(key, value)
            at = _skip(text, at)
            mark = text[at : at + 1]
            if mark == b",":
                at = _skip(text, at + 1)
                if type(parent) is dict:
                    key, at = _key(text, at)
                break
            if mark != (b"]" if type(parent) is list else b"}"):
                raise ParseError(_MISSING[type(parent)], at)
            at += 1
            value, key = stack.pop(), keys.pop()
        else:
            return value


def _skip(text, at):
    return _SPACE.match(text, at).end()


def _key(text, at):
    if text[at : at + 1] != b'"':
        raise ParseError("Missing a name for object member.", at)
    key, at = _string(text, at)
    at = _skip(text, at)
    if text[at : at + 1] != b":":
        raise ParseError("Missing a colon after a name of object member.", at)
    return key, _skip(text, at + 1)


def _scalar(text, at):
    if text[at : at + 1] == b'"':
        return _string(text, at)
    for word, value in _WORDS:
        if text.startswith(word, at):
            return value, at + len(word)
    if found := _NOT_FINITE.match(text, at):
        return float(found[0]), found.end()
    return _number(text, at)


def _number(text, at):
    found = _INTEGER.match(text, at)
    if not found:
        raise ParseError("Invalid value.", at)
    end, is_float = found.end(), False
    if text[end : end + 1] == b".":
        found = _FRACTION.match(text, end)
        if not found:
            raise ParseError("Miss fraction part in number.", end + 1)
        end, is_float = found.end(), True
    if text[end : end + 1] in (b"e", b"E"):
        found = _EXPONENT.match(text, end)
        if not found:
            raise ParseError("Miss exponent in number.", end + 1)
        end, is_float = found.end(), True
    token = text[at:end]
    if not is_float and len(token) < 21:
        value = int(token)
        if -(2**63) <= value < 2**64:
            return value, end
    value = float(token)
    if value in (float("inf"), float("-inf")):
        raise ParseError("Number too big to be stored in double.", at)
    return value, end


def _string(text, at):
    parts, start = [], at
    at += 1
    while True:
        found = _PLAIN.match(text, at)
        parts.append(found[0])
        at = found.end()
        mark = text[at : at + 1]
        if mark == b'"':
            return b"".join(parts).decode("utf-8", "surrogateescape"), at + 1
        if not mark:
            raise ParseError("Missing a closing quotation mark in string.", at)
        if mark != b"\\":
            raise ParseError("Invalid encoding in string.", at)
        part, at = _escape(text, at, start)
        parts.append(part)


def _escape(text, at, start):
    mark = text[at + 1 : at + 2]
    if mark in _ESCAPES:
        return _ESCAPES[mark], at + 2
    if mark != b"u":
        raise ParseError("Invalid escape character in string.", at)
    code, at = _unit(text, at)
    if 0xD800 <= code < 0xE000:
        if code >= 0xDC00 or text[at : at + 2] != b"\\u":
            raise ParseError("The surrogate pair in string is invalid.", start + 1)
        low, at = _unit(text, at)
        if not 0xDC00 <= low < 0xE000:
            raise ParseError("The surrogate pair in string is invalid.", start + 1)
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
    return chr(code).encode(), at


def _unit(text, at):
    found = _HEX.match(text, at + 2)
    if not found:
        raise ParseError("Incorrect hex digit after \\u escape in string.", at)
    return int(found[0], 16), found.end()
