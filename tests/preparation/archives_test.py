"""Archives and folders as streams of files: what is in them, and what must be refused."""

import bz2
import gzip
import io
import itertools
import lzma
import tarfile

import commands
import hypothesis.strategies as st
import packed
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from peak_memory import of_python_below

from r2n2_keras.data.trees import FileType, recognise
from r2n2_keras.errors import InputError
from r2n2_keras.preparation import archives
from r2n2_keras.preparation.archives import Archive, open_source
from r2n2_keras.preparation.checker import MAX_FILE, BadFile

MODEL = "03001627/m0"
VIEW = f"ShapeNetRendering/{MODEL}/rendering/00.png"
FILES = packed.files(chairs=2, tables=1, views=2)


def read(path):
    """{(kind, key, view): bytes} of a source."""
    return {(m.file_type, m.key, m.view): m.read() for m in open_source(str(path)).members()}


def expected(files):
    return {recognise(name): data for name, data in files.items()}


def refusal(path):
    """The one line, which names the archive, with which reading it to its end is refused."""

    def read():
        for member in open_source(str(path)).members():
            if member.file_type is FileType.VIEW:
                member.read()

    message = commands.refusal(read)
    assert message.isprintable() and str(path) in message
    return message


def header(name, **attributes):
    info = tarfile.TarInfo(name)
    for attribute, value in attributes.items():
        setattr(info, attribute, value)
    return info


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz", "w:"])
@pytest.mark.parametrize(
    "tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
)
def test_every_packing_gives_the_same_files(tmp_path, mode, tar_format):
    path = tmp_path / "data"  # known by its content: it has no suffix
    folder = "a folder with a long name of its own/" * 3
    with tarfile.open(path, mode, format=tar_format) as tar:
        for name, data in FILES.items():
            tar.addfile(header(folder + name, size=len(data)), io.BytesIO(data))
    assert read(path) == expected(FILES)


def test_a_folder_gives_the_same_files(tmp_path):
    tree = packed.write_tree(tmp_path / "tree", FILES)
    assert read(tree) == expected(FILES)
    renderings = packed.half(FILES, "ShapeNetRendering")
    assert read(tree / "ShapeNetRendering") == expected(renderings)
    assert read(f"{tree}/ShapeNetRendering/") == expected(renderings)
    (tree / "loop").symlink_to(tree)  # is followed to a depth
    assert read(tree) == expected(FILES)


def test_urls(tmp_path):
    packed.write_tar(tmp_path / "a.tgz", FILES.items())
    there = {f"ram://urls/tree/{name}": data for name, data in FILES.items()}
    there["ram://urls/a.tgz"] = (tmp_path / "a.tgz").read_bytes()
    for name, data in there.items():
        tf.io.gfile.makedirs(name.rpartition("/")[0])
        with tf.io.gfile.GFile(name, "wb") as file:
            file.write(data)
    assert read("ram://urls/a.tgz") == read("ram://urls/tree") == expected(FILES)


def test_streams_in_a_row_and_padding_are_one_archive(tmp_path):
    packed.write_tar(tmp_path / "plain.tar", FILES.items(), "w:")
    plain = (tmp_path / "plain.tar").read_bytes()
    for compress in (gzip.compress, bz2.compress, lzma.compress):
        pieces = [compress(plain[:5000]), compress(plain[5000:9000]), compress(plain[9000:])]
        (tmp_path / "packed").write_bytes(b"".join(pieces) + bytes(512))
        assert read(tmp_path / "packed") == expected(FILES)


def test_reading_is_up_to_the_caller(tmp_path):
    path = packed.write_tar(tmp_path / "a.tgz", FILES.items())
    found = {
        (member.file_type, member.key, member.view): member.read()
        for number, member in enumerate(open_source(path).members())
        if number % 3 == 0
    }
    assert len(found) == len(list(FILES)[::3]) and found.items() <= expected(FILES).items()


def test_how_much_is_done(tmp_path):
    source = open_source(packed.write_tar(tmp_path / "a.tgz", FILES.items()))
    assert (source.name, source.done) == ("a.tgz", 0)
    for _ in source.members():
        pass
    assert source.done == source.size == (tmp_path / "a.tgz").stat().st_size
    assert source.volume > sum(map(len, FILES.values()))


@given(
    name=st.text(st.characters(min_codepoint=32, max_codepoint=300), max_size=120),
    size=st.integers(0, 2**40),
    mode=st.integers(0, 0o7777),
    kind=st.sampled_from([b"0", b"\0", b"1", b"2", b"3", b"5", b"6", b"7", b"S", b"V"]),
    tar_format=st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT]),
    damage=st.none() | st.tuples(st.integers(0, 511), st.integers(0, 255)),
)
@example("a/b", 5, 0o644, b"0", tarfile.USTAR_FORMAT, None)
@example("a" * 60 + "/" + "b" * 60, 5, 0o644, b"0", tarfile.USTAR_FORMAT, None)
def test_a_header_read_the_short_way_says_what_tarfile_says(
    name, size, mode, kind, tar_format, damage
):
    info = header(name, size=size, mode=mode, type=kind)
    try:
        block = bytearray(info.tobuf(tar_format, "utf-8", "surrogateescape")[-512:])
    except ValueError:  # a name that this format cannot hold
        return
    if damage:
        block[damage[0]] = damage[1]

    def parsed(cls):
        try:
            info = cls.frombuf(bytes(block), "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            return None
        return info.name, info.size, info.type, info.isfile(), info.isdir(), info.issparse()

    assert parsed(archives._Info) == parsed(tarfile.TarInfo)


# What must be refused.


def _claim(name, size, kind=tarfile.REGTYPE):
    """A header alone, as an archive: what it announces does not come."""
    return header(name, size=size, type=kind).tobuf(tarfile.GNU_FORMAT)


def _sparse_map(count):
    """A sparse file of pax format 1.0, whose map says that it has `count` entries."""
    info = header("a/b/rendering/00.png", size=1 << 30)
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    return info.tobuf(tarfile.PAX_FORMAT) + f"{count}\n".encode() + (b"1" * 31 + b"\n") * (1 << 17)


HOSTILE_MEMBERS = {
    "climbing": header("../evil.png"),
    "climbing deep": header("a/b/../../../evil.txt"),
    "climbing folder": header("a/..", type=tarfile.DIRTYPE),
    "absolute": header("/etc/evil"),
    "symbolic link": header(VIEW, type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "hard link": header("stray", type=tarfile.LNKTYPE, linkname=VIEW),
    "device": header("stray", type=tarfile.CHRTYPE),
    "disk": header("stray", type=tarfile.BLKTYPE),
    "pipe": header("stray", type=tarfile.FIFOTYPE),
    "unknown type": header("stray", type=b"Z"),
}


@pytest.mark.parametrize("member", HOSTILE_MEMBERS.values(), ids=HOSTILE_MEMBERS)
def test_hostile_members_are_named(tmp_path, member):
    path = packed.write_tar(tmp_path / "a.tgz", [*FILES.items(), member])
    assert f"member {member.name} " in refusal(path)


def test_a_name_cannot_write_to_the_terminal(tmp_path):
    path = packed.write_tar(tmp_path / "a.tgz", [header("../\x1b[2Jevil\nline")])
    assert r"\x1b[2Jevil\nline" in refusal(path)


CLAIMS = {
    "long name": _claim("stray", 10 << 30, tarfile.GNUTYPE_LONGNAME),
    "long link": _claim("stray", 10 << 30, tarfile.GNUTYPE_LONGLINK),
    "pax": _claim("stray", 10 << 30, tarfile.XHDTYPE),
    "global pax": _claim("stray", 10 << 30, tarfile.XGLTYPE),
    "negative": _claim("stray", -512),
    "very negative": _claim("stray", -(1 << 40)),
    "negative pax": _claim("stray", -512, tarfile.XHDTYPE),
    "beyond all": _claim("stray", 1 << 62),
    "10 GB": _claim("stray", 10 << 30) + bytes(100_000),
    "chain": _claim("stray", 0, tarfile.GNUTYPE_LONGNAME) * 3000,
    "endless sparse map": _sparse_map(1 << 60),
    "sparse": _sparse_map(10),
}


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_claims_are_refused_in_bounded_memory(tmp_path, claim):
    packed.write_tar(tmp_path / "start.tar", FILES.items(), "w:")
    start = (tmp_path / "start.tar").read_bytes().rstrip(b"\0")
    start += bytes(-len(start) % 512)
    path = tmp_path / "a.tar"
    for content in (claim, start + claim, start + claim + bytes(1 << 20)):
        path.write_bytes(content)
        with of_python_below(12 << 20):
            refusal(path)


@pytest.mark.parametrize("size", [MAX_FILE + 1, 10 << 30])
def test_a_wanted_file_of_a_size_that_none_has(tmp_path, size):
    path = tmp_path / "a.tar"
    path.write_bytes(_claim(VIEW, size) + bytes(100_000))
    member = next(open_source(str(path)).members())
    with pytest.raises(BadFile, match=f"^{VIEW} in {path}: .* received one of {size}."):
        member.read()


def test_a_large_file_in_a_folder(tmp_path):
    tree = packed.write_tree(tmp_path, {VIEW: b""})
    with open(tree / VIEW, "wb") as file:
        file.truncate(10 << 30)
    (member,) = open_source(str(tree)).members()
    with of_python_below(20 << 20), pytest.raises(BadFile, match=str(tree / VIEW)):
        member.read()


def test_a_bomb_of_zeros_takes_no_memory(tmp_path):
    size = 32 << 20
    content = _claim("stray", size) + bytes(size) + _claim("pax", 10 << 30, tarfile.XHDTYPE)
    path = tmp_path / "packed"
    for compress in (gzip.compress, lzma.compress):
        path.write_bytes(compress(content))
        assert path.stat().st_size < 100_000
        with of_python_below(12 << 20):
            refusal(path)


def test_a_dictionary_larger_than_memory(tmp_path):
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 29}]
    path = tmp_path / "a.tar.xz"
    path.write_bytes(lzma.compress(bytes(10240), filters=filters))
    assert "Memory usage limit" in refusal(path)


def test_headers_do_not_pile_up(tmp_path):
    path = tmp_path / "a.tar"
    stray = header("stray").tobuf()
    records = ({f"key{number}": "x" * 500_000} for number in range(60))
    large = b"".join(header("x").create_pax_global_header(record) + stray for record in records)
    for content, limit in ((large, 12 << 20), (stray * 10_000, 4 << 20)):
        path.write_bytes(content + bytes(1024))
        with of_python_below(limit):
            assert sum(1 for _ in open_source(str(path)).members()) > 0


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz", "w:"])
def test_truncated_anywhere(tmp_path, mode):
    path = tmp_path / "cut.tgz"
    packed.write_tar(path, FILES.items(), mode)
    whole = path.read_bytes()
    if mode == "w:":
        whole = whole.rstrip(b"\0")  # behind the end mark, which is of zeros, nothing is missed
    for end in (*range(0, len(whole), len(whole) // 20), len(whole) - 9, len(whole) - 1):
        path.write_bytes(whole[:end])
        refusal(path)


def test_a_cut_between_members_names_the_last_one(tmp_path):
    path = tmp_path / "a.tar"
    packed.write_tar(path, [("a/b/model.binvox", bytes(512)), ("second", b"")], "w:")
    path.write_bytes(path.read_bytes()[:1024])
    line = refusal(path)
    assert "after the member a/b/model.binvox" in line
    assert "without an end mark" in line


@pytest.mark.parametrize(
    "content",
    [b"", b"text, but no archive\n" * 100, b"PK\x03\x04" + bytes(600), b"\x1f\x8b", b"BZh9",
     gzip.compress(b"text, but no archive\n" * 100, mtime=0), gzip.compress(b"", mtime=0)],
)  # fmt: skip
def test_no_archive(tmp_path, content):
    path = tmp_path / "a.tgz"
    path.write_bytes(content)
    assert "which cannot be read at its start" in refusal(path)


def test_damage_behind_the_members(tmp_path):
    path = tmp_path / "a.tgz"
    packed.write_tar(path, FILES.items())
    whole = path.read_bytes()
    path.write_bytes(whole + b"garbage")
    refusal(path)
    path.write_bytes(whole[:-6] + bytes([whole[-6] ^ 1]) + whole[-5:])
    assert "CRC check failed" in refusal(path)


def test_nothing_there(tmp_path):
    with pytest.raises(InputError, match=r"received .*nothing.tgz, which cannot be read"):
        open_source(str(tmp_path / "nothing.tgz"))
    with pytest.raises(InputError, match=r"received scheme://host/a\.tgz"):
        open_source("scheme://host/a.tgz")


@settings(max_examples=150)
@given(st.data())
def test_damage_is_refused_or_harmless(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "damaged.tar"
    packed.write_tar(path, itertools.islice(FILES.items(), 6), "w:")
    content = bytearray(path.read_bytes()[:8000])
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        for member in Archive(str(path)).members():
            assert len(member.read()) <= MAX_FILE
    except InputError as error:
        assert str(path) in str(error)
