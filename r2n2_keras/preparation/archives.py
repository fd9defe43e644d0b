"""The files of a data set, streamed once from an archive or a folder; nothing is unpacked.

What an archive says about itself is a claim: whatever it says, reading takes a bounded amount of
memory, and nothing is written. Both sources say what each file is by the end of its path, as
`r2n2_keras.data.trees` lists them: it does not matter in which folder the data set was packed.
"""

import bz2
import dataclasses
import functools
import gzip
import io
import lzma
import posixpath
import tarfile
from collections.abc import Callable, Iterator

from r2n2_keras.data import remote
from r2n2_keras.data.objects import Key
from r2n2_keras.data.trees import FileType, recognise
from r2n2_keras.errors import InputError, reading, reason
from r2n2_keras.preparation.checker import check_size, read, unreadable

MAX_HEADERS = 1 << 20  # bytes that describe one member: long names, extended headers
MAX_DEPTH = 10  # folders below the one given: links may lead in circles

_CHUNK = 1 << 16  # compressed bytes at a time
_BUFFER = 1 << 18  # unpacked bytes at a time
_XZ_MEMORY = 1 << 28

_FILES = (".png", ".txt", ".binvox", ".mat", ".json", ".csv", ".tgz", ".zip")  # hardly folders


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """A file of a source."""

    place: str  # what to call it in a message
    file_type: FileType
    key: Key  # synset and model id; empty where it belongs to no model
    view: str  # of a rendering its name without `.png`
    # Gives its bytes, until the next member is asked for. Raises `BadFile` where it cannot be read
    # or is larger than `checker.MAX_FILE`.
    read: Callable[[], bytes]


class Source:
    """Where renderings or voxels come from: `members()` gives the files, each once, in their order.

    A damaged or hostile source is an InputError. Of its `size` bytes (0: not known) `done` have
    been read, `volume` bytes after decompression.
    """

    def __init__(self, path: str):
        self.path = path
        self.size = self.done = self.volume = 0

    @property
    def name(self) -> str:
        return posixpath.basename(self.path.rstrip("/"))


def open_source(path: str) -> Source:
    """A folder or a tar archive, plain or packed by gzip, bzip2 or xz; else an InputError."""
    remote.require(path)
    if remote.isdir(path):
        return Folder(path)
    archive = Archive(path)
    with reading("an archive (.tgz, .tar) or a folder", path, "Check the path."):
        archive.size = remote.size(path)
    members = archive.members()
    next(members, None)  # an error at the first member is one before anything is written
    members.close()
    archive.done = archive.volume = 0
    return archive


class Folder(Source):
    """A folder, and what lies below it, by name."""

    def members(self) -> Iterator[Member]:
        return self._walk(self.path, MAX_DEPTH)

    def _walk(self, folder, depth):
        try:
            names = remote.listdir(folder)
        except OSError as error:
            raise InputError(f"{unreadable(folder, error)} Check its permissions.") from None
        for name in names:
            path = posixpath.join(folder, name.rstrip("/"))
            if not name.endswith(_FILES) and (name.endswith("/") or remote.isdir(path)):
                if depth:
                    yield from self._walk(path, depth - 1)
                continue
            yield Member(path, *recognise(path), functools.partial(self._read, path))

    def _read(self, path):
        content = read(path)
        self.volume += len(content)
        return content


class Archive(Source):
    """A tar archive, read forwards."""

    def members(self) -> Iterator[Member]:
        with remote.open_file(self.path) as file:
            yield from self._members(file)

    def _members(self, file):
        stream, tar = self._attempt("", lambda: self._open(file))
        last = ""
        while info := self._attempt(last, lambda: _next(stream, tar)):
            self._refuse_hostile(info)
            last = info.name
            self.done = file.tell()
            if info.isfile():
                self.volume = stream.tell()
                place = f"{_shown(info.name)} in {self.path}"
                read = functools.partial(self._read, stream, info, place)
                yield Member(place, *recognise(info.name), read)

    def _open(self, file):
        stream = _Forward(_unpacked(file))
        return stream, tarfile.TarFile(fileobj=stream, tarinfo=_Info, encoding="utf-8")

    def _read(self, stream, info, place):
        check_size(info.size, place)
        return self._attempt(info.name, lambda: stream.content(info.offset_data, info.size))

    def _attempt(self, last, call):
        """What a call gives; `last` is the newest member's name, for the message where it fails."""
        try:
            return call()
        except Exception as error:  # on damaged headers tarfile raises whatever comes up
            after = f"after the member {_shown(last)}" if last else "at its start"
            raise InputError(
                f"Expected a whole tar archive, plain or packed by gzip, bzip2 or xz, received "
                f"{self.path}, which cannot be read {after} ({_short(error)}). Get it again."
            ) from None

    def _refuse_hostile(self, info):
        name = info.name
        if name.startswith("/") or (".." in name and ".." in name.split("/")):
            what = "leads out of the archive's folder"
        elif not (info.isfile() or info.isdir()) or info.issparse():
            what = "is neither a plain file nor a folder but a link, a device or the like"
        else:
            return
        raise InputError(
            f"Expected an archive of plain files and folders, received {self.path}, whose member "
            f"{_shown(name)} {what}. Do not unpack it; get it again from a source you trust."
        )


class _Damaged(Exception):
    """An archive does not go on as it should."""


def _next(stream, tar):
    """The next member; None at the end of the archive, which is read on to its checksum."""
    stream.allowance = MAX_HEADERS
    info = tar.next()
    tar.members.clear()  # both grow with the archive otherwise
    tar.pax_headers.clear()
    if info is None:
        stream.finish()
    return info


class _Info(tarfile.TarInfo):
    """A member's header; that of a plain file with a short name is read in a third of the time.

    Half of the time that it takes to read the original's archives went into them.
    """

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        name, size, checksum = buf[:100].rstrip(b"\0"), buf[124:136], buf[148:156]
        size, checksum = size.strip(b"\0 "), checksum.strip(b"\0 ")
        is_plain = (
            len(buf) == tarfile.BLOCKSIZE
            and buf[156:157] == tarfile.REGTYPE
            and name.isascii()
            and b"\0" not in name
            and not buf[345:500].strip(b"\0")  # what stands before a longer name
            and _is_octal(size)
            and _is_octal(checksum)
            and int(checksum, 8) == sum(buf[:148]) + sum(b" " * 8) + sum(buf[156:])
        )
        if not is_plain:
            return super().frombuf(buf, encoding, errors)
        info = cls(name.decode())
        info.size = int(size, 8)
        return info


def _is_octal(digits):
    return bool(digits) and not digits.strip(b"01234567")


class _Forward:
    """A file for `tarfile` that only goes forwards; `read` may still give `allowance` bytes."""

    def __init__(self, file):
        self._file = file
        self._position = 0
        self._last = b""
        self.allowance = MAX_HEADERS

    def tell(self):
        return self._position

    def read(self, size):
        """What `tarfile` reads by itself: headers, the size of which is a claim of theirs."""
        if not 0 <= size <= self.allowance:
            raise _Damaged(f"headers of more than {MAX_HEADERS} bytes for one member")
        self.allowance -= size
        self._last = self._file.read(size)
        self._position += len(self._last)
        return self._last

    def seek(self, position):
        if position < self._position:
            raise _Damaged("a member of negative size")
        while self._position < position:
            skipped = len(self._file.read(min(position - self._position, _BUFFER)))
            if not skipped:
                raise _Damaged("it ends within a member")
            self._position += skipped

    def content(self, position, size):
        self.seek(position)
        content = self._file.read(size)
        self._position += len(content)
        if len(content) < size:
            raise _Damaged("it ends within a member")
        return content

    def finish(self):
        """Reads on to the end, so that checksums are verified.

        `tarfile` takes any block that is no header for the end; only one of zeros is.
        """
        if self._last.strip(b"\0") or not self._last:
            raise _Damaged("it ends without an end mark")
        while self._file.read(_BUFFER):
            pass


def _unpacked(file):
    """A file's bytes, decompressed as its first ones say."""
    magic = file.read(6)
    file.seek(0)
    if magic.startswith(b"\x1f\x8b"):
        return io.BufferedReader(gzip.GzipFile(fileobj=file, mode="rb"), _BUFFER)
    if magic.startswith(b"BZh"):
        return io.BufferedReader(bz2.BZ2File(file), _BUFFER)
    return io.BufferedReader(_Xz(file), _BUFFER) if magic == b"\xfd7zXZ\0" else file


class _Xz(io.RawIOBase):
    """An xz file; `lzma.LZMAFile` sets no limit to the memory that a file may ask for."""

    def __init__(self, file):
        self._file = file
        self._begin()

    def _begin(self):
        self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)

    def readable(self):
        return True

    def readinto(self, buffer):
        piece = self._more(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def _more(self, size):
        while True:
            packed = b""
            if self._decoder.eof:  # another stream may follow, or zeros, which are padding
                packed = self._decoder.unused_data.lstrip(b"\0")
                while not packed and (chunk := self._file.read(_CHUNK)):
                    packed = chunk.lstrip(b"\0")
                if not packed:
                    return b""
                self._begin()
            elif self._decoder.needs_input and not (packed := self._file.read(_CHUNK)):
                raise _Damaged("the compressed data end too early")
            if piece := self._decoder.decompress(packed, size):
                return piece


def _shown(name):
    name = name if name.isprintable() else ascii(name)
    return name if len(name) <= 200 else f"{name[:100]}...{name[-100:]}"


def _short(error):
    text = reason(error) if hasattr(error, "message") else str(error)  # TensorFlow's
    return text[:200] or type(error).__name__
