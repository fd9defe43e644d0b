"""Client of an exported model that TensorFlow Serving serves: pictures in, voxels out.

    python client.py --url=http://localhost:8501 --images=a.png,b.png --out=chair.glb

    from client import Client
    with Client("http://localhost:8501", label="stable") as client:
        voxels = client.voxels(["a.png", "b.png"])  # bool [x, y, z], y up

One file that needs Python 3.10 and numpy alone: copy it to where it is used. It follows the
documented contract of TensorFlow Serving's REST port and was not run against a real server.
"""

import argparse
import base64
import email.utils
import gzip
import http.client
import io
import itertools
import json
import os
import random
import struct
import sys
import time
import urllib.parse
from pathlib import Path

import numpy as np

Picture = bytes | str | os.PathLike  # an encoded picture, or the path of one

MAX_RESPONSE = 64 * 2**20  # bytes; an object's occupancy takes less than one MiB
RETRIED = (429, 503, 504)
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
FILES = (".glb", ".npz", ".npy", ".binvox")


class ServingError(RuntimeError):
    """The server refused, failed, did not answer in time, or answered nonsense.

    Attributes:
        status: HTTP status of the answer, or 0 where no whole answer came.
        message: one line, with the server's own text where it gave one.
    """

    def __init__(self, status: int, message: str):
        printable = "".join(c if c.isprintable() else " " for c in message[:600])
        self.status, self.message = status, " ".join(printable.split())
        super().__init__(f"HTTP {status}: {self.message}" if status else self.message)


class Client:
    """A model on a server, over one connection that is kept open between calls.

    Not safe for several threads at a time: give each its own. Calls change nothing on the server,
    so one that failed on the way is sent again. Methods raise a `ServingError` where the server
    does not answer as it should, a ValueError or OSError where a picture cannot be sent.

    Args:
        url: of the server, http or https, with a path where a proxy has it under one.
        model: name of the model.
        version: number of the version to ask; the newest unless given.
        label: name that the server's configuration gives to a version, instead of `version`.
        timeout: seconds that one call may take, all tries and waits together.
        retries: how often a call is tried again after a lost connection or HTTP 429, 503 or 504.

    Raises:
        ValueError: an argument is out of range, or version and label are both given.
    """

    def __init__(
        self,
        url: str,
        model: str = "r2n2",
        version: int | None = None,
        label: str | None = None,
        timeout: float = 30.0,
        retries: int = 4,
    ):
        parts, quote = urllib.parse.urlsplit(url), urllib.parse.quote
        is_http = parts.scheme in ("http", "https") and parts.hostname
        if not is_http or "@" in parts.netloc or parts.query:
            raise ValueError(f"Expected a URL such as http://localhost:8501, received {url!r}.")
        if version is not None and label is not None:
            raise ValueError(f"Expected version or label, received {version} and {label!r}.")
        if not 0 < timeout < 1e6 or retries < 0:
            raise ValueError(f"Expected timeout > 0, retries >= 0, received {timeout}, {retries}.")
        connect, port = http.client.HTTPConnection, 80
        if parts.scheme == "https":
            connect, port = http.client.HTTPSConnection, 443
        self._connection = connect(parts.hostname, parts.port or port)
        self._path = quote(parts.path.rstrip("/"), safe="/%") + f"/v1/models/{quote(model, '')}"
        if version is not None:
            self._path += f"/versions/{version:d}"
        elif label is not None:
            self._path += f"/labels/{quote(label, '')}"
        self.timeout, self.retries = timeout, retries

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; another call opens it again."""
        self._connection.close()

    def voxels(self, pictures: list[Picture]) -> np.ndarray:
        """Voxels of one object, bool `(N, N, N)`: [x, y, z] with y up.

        Args:
            pictures: its views, in the order in which the network sees them.
        """
        return _grid(self._predict("voxels", [_views(pictures)])[0])

    def voxels_of_many(self, objects: list[list[Picture]]) -> np.ndarray:
        """Voxels of several objects in one request, bool `(B, N, N, N)`.

        Args:
            objects: the views of each; their numbers may differ.
        """
        views = [_views(pictures) for pictures in objects]
        longest = max(map(len, views), default=0)
        instances = [
            {"image_bytes": v + [_b64(b"")] * (longest - len(v)), "num_views": len(v)}
            for v in views
        ]
        grids = [_grid(prediction) for prediction in self._predict("padded", instances)]
        if len({grid.shape for grid in grids}) > 1:
            raise _nonsense("grids of one size")
        return np.stack(grids)

    def occupancy(self, pictures: list[Picture]) -> np.ndarray:
        """Probability of each voxel, float32 `(N, N, N)`: 80 times the bytes of `voxels`.

        Args:
            pictures: the object's views, in the order in which the network sees them.
        """
        try:
            grid = np.asarray(self._predict("serving_default", [_views(pictures)])[0], float)
        except (TypeError, ValueError, OverflowError):
            raise _nonsense("numbers") from None
        is_cube = grid.ndim == 3 and len(set(grid.shape)) == 1
        if not is_cube or not ((grid >= 0) & (grid <= 1)).all():
            raise _nonsense("a cube of probabilities")
        return grid.astype(np.float32)

    def refine(self, picture: Picture, state: bytes = b"") -> tuple[np.ndarray, bytes]:
        """Voxels after one more view, and the state to send with the next one.

        Args:
            picture: the view.
            state: what the call with the view before returned; empty for the first one.
        """
        instance = {"image_bytes": _views([picture])[0], "state_bytes": _b64(state)}
        prediction = self._predict("refine", [instance])[0]
        if not isinstance(prediction, dict):
            raise _nonsense("voxels and state")
        return _grid(prediction.get("voxels_bytes")), _bytes(prediction.get("state_bytes"))

    def status(self) -> list[dict]:
        """What the server says of the model's versions; a label makes no difference to it.

        Returns:
            `{"version": "1", "state": "AVAILABLE", "status": {"error_code", "error_message"}}` for
            each; states are START, LOADING, AVAILABLE, UNLOADING and END.
        """
        versions = self._call(self._path).get("model_version_status")
        if not isinstance(versions, list):
            raise _nonsense("the versions' states")
        return versions

    def is_ready(self) -> bool:
        """Whether the version asked for answers now; tried once, and False after any error.

        By its metadata, which a loaded version alone has: the status is HTTP 200 also where one
        loads or has failed.
        """
        try:
            return bool(self._call(f"{self._path}/metadata", retries=0))
        except ServingError:
            return False

    def metadata(self) -> dict:
        """The version that answers and its signatures, as the server says them."""
        return self._call(f"{self._path}/metadata")

    def _predict(self, signature, instances):
        if not instances:
            raise ValueError("Expected at least one object, received none.")
        request = {"signature_name": signature, "instances": instances}
        predictions = self._call(f"{self._path}:predict", request).get("predictions")
        if not isinstance(predictions, list) or len(predictions) != len(instances):
            raise _nonsense(f"{len(instances)} predictions")
        return predictions

    def _call(self, path, request=None, retries=None):
        """The JSON object that answers a GET, or a POST of `request`."""
        # Base64 takes a third more than it carries; compressed it does not.
        body = None if request is None else gzip.compress(json.dumps(request).encode(), 1)
        retries = self.retries if retries is None else retries
        deadline = time.monotonic() + self.timeout
        for attempt in itertools.count():
            # Clients that failed together come back apart.
            pause = min(0.25 * 2**attempt, 8) * random.uniform(0.5, 1)
            try:
                status, retry_after, content = self._exchange(path, body, deadline)
            except (OSError, http.client.HTTPException) as problem:
                where = f"{self._connection.host}:{self._connection.port}"
                error = ServingError(0, f"No answer from {where}: {problem or repr(problem)}")
            else:
                answer = _json_object(content)
                if status == 200:
                    if answer is None:
                        raise _nonsense("a JSON object")
                    return answer
                text = (answer or {}).get("error") or content.decode(errors="replace")
                error = ServingError(status, str(text))
                if status not in RETRIED:
                    raise error
                pause = max(pause, _seconds(retry_after))
            if attempt >= retries or time.monotonic() + pause >= deadline:
                raise error
            time.sleep(pause)

    def _exchange(self, path, body, deadline):
        """One try: status, the header Retry-After, and the body of the answer."""
        connection, method = self._connection, "GET" if body is None else "POST"
        is_kept = connection.sock is not None
        try:
            connection.timeout = _left(deadline)
            if not is_kept:
                connection.connect()
            sock = connection.sock
            sock.settimeout(_left(deadline))
            encoding = {} if body is None else {"Content-Encoding": "gzip"}
            headers = {"Content-Type": "application/json", **encoding}
            connection.request(method, path, body, headers)
            with connection.getresponse() as response:
                content = bytearray()
                while not response.isclosed():
                    # A socket's timeout is one of each read, the deadline one of them all.
                    sock.settimeout(_left(deadline))
                    chunk = response.read1(2**16)
                    if not chunk:
                        break
                    content += chunk
                    if len(content) > MAX_RESPONSE:
                        raise _nonsense(f"at most {MAX_RESPONSE} bytes", response.status)
                if response.length:
                    raise http.client.IncompleteRead(bytes(content), response.length)
                return response.status, response.getheader("Retry-After"), bytes(content)
        except BaseException as problem:
            self.close()
            if is_kept and isinstance(problem, ConnectionError):
                # Servers close connections that were idle for long: that is no failed try.
                return self._exchange(path, body, deadline)
            raise


def glb(voxels: np.ndarray) -> bytes:
    """A binary glTF 2.0 file of the surface: the unit cube around the origin, y up.

    Only faces between occupied and empty cells are in it, each with corners of its own, so that it
    is shaded flat.

    Args:
        voxels: bool `(N, N, N)`, [x, y, z].

    Raises:
        ValueError: nothing is occupied; glTF has no empty meshes.
    """
    if not voxels.any():
        raise ValueError("Expected occupied voxels for a mesh, received none. Write .npz instead.")
    padded, corners, normals = np.pad(voxels, 1), [], []
    for axis, side in itertools.product(range(3), (0, 1)):
        neighbours = np.roll(padded, 1 - 2 * side, axis)[1:-1, 1:-1, 1:-1]
        cells = np.argwhere(voxels & ~neighbours)
        # Counter-clockwise as seen from outside.
        square = np.array([(side, 0, 0), (side, 1, 0), (side, 1, 1), (side, 0, 1)])
        square = np.roll(square if side else square[::-1], axis, axis=1)
        corners.append((cells[:, None] + square).reshape(-1, 3))
        normals.append(np.tile(np.eye(3)[axis] * (2 * side - 1), (4 * len(cells), 1)))
    positions = (np.concatenate(corners) / max(voxels.shape) - 0.5).astype("<f4")
    triangles = np.arange(0, len(positions), 4)[:, None] + [0, 1, 2, 0, 2, 3]
    binary, views, accessors = b"", [], []
    for array, kind, shape, target in (
        (positions, 5126, "VEC3", 34962),
        (np.concatenate(normals).astype("<f4"), 5126, "VEC3", 34962),
        (triangles.astype("<u4").ravel(), 5125, "SCALAR", 34963),
    ):
        place = {"byteOffset": len(binary), "byteLength": array.nbytes}
        views.append({"buffer": 0, "target": target, **place})
        kind = {"componentType": kind, "type": shape, "count": len(array)}
        accessors.append({"bufferView": len(accessors), **kind})
        binary += array.tobytes()
    accessors[0] |= {"min": positions.min(0).tolist(), "max": positions.max(0).tolist()}
    grey = {"baseColorFactor": [0.6, 0.6, 0.6, 1], "metallicFactor": 0, "roughnessFactor": 0.8}
    surface = {"attributes": {"POSITION": 0, "NORMAL": 1}, "indices": 2, "material": 0}
    header = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "voxels"}],
        "meshes": [{"primitives": [surface]}],
        "materials": [{"pbrMetallicRoughness": grey}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(binary)}],
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text
    chunks += struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def binvox(voxels: np.ndarray) -> bytes:
    """A binvox file, x slowest, then z, then y; the grid is the unit cube around the origin.

    Args:
        voxels: bool `(N, N, N)`, [x, y, z].
    """
    cells = voxels.transpose(0, 2, 1)
    header = "#binvox 1\ndim {} {} {}\ntranslate -0.5 -0.5 -0.5\nscale 1\ndata\n"
    content = bytearray(header.format(*cells.shape).encode())
    for value, run in itertools.groupby(cells.ravel().tolist()):
        length = len(list(run))
        for start in range(0, length, 255):  # a run's length is one byte
            content += bytes([value, min(255, length - start)])
    return bytes(content)


def _write(path, voxels):
    """Writes what the suffix says; the file appears under its name only when it is whole."""
    buffer = io.BytesIO()
    if path.suffix == ".npz":
        np.savez_compressed(buffer, voxels=voxels)
    elif path.suffix == ".npy":
        np.save(buffer, voxels)
    else:
        buffer.write(glb(voxels) if path.suffix == ".glb" else binvox(voxels))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"partial-{os.getpid()}.{path.name}")
    try:
        partial.write_bytes(buffer.getvalue())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def main() -> int:
    """The command; returns its exit code, 1 after one line on standard error."""
    try:
        options = _parser().parse_args()
        out = Path(options.out)
        if out.suffix not in FILES:
            raise ValueError(f"Expected --out with {', '.join(FILES)}, received {options.out}.")
        if out.is_dir():
            raise ValueError(f"Expected --out to be a file, received the folder {out}.")
        views = [path.read_bytes() for path in _paths(options.images)]
        names = ("url", "model", "version", "label", "timeout", "retries")
        with Client(**{name: getattr(options, name) for name in names}) as client:
            state = b""
            for view in views if options.one_by_one else ():
                voxels, state = client.refine(view, state)
            if not options.one_by_one:
                voxels = client.voxels(views)
        _write(out, voxels)
    except (ServingError, OSError, ValueError) as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 1
    print(f"{voxels.sum():,} of {voxels.size:,} voxels are occupied. Wrote {out}")
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise ValueError(f"{message}. See --help.")


def _parser():
    raw = argparse.RawDescriptionHelpFormatter
    parser = _Parser(description=__doc__, formatter_class=raw, allow_abbrev=False)
    add, either = parser.add_argument, parser.add_mutually_exclusive_group()
    add("--url", default="http://localhost:8501", help="the server [%(default)s]")
    add("--model", default="r2n2", help="name of the model [%(default)s]")
    either.add_argument("--version", type=int, help="version to ask [the newest]")
    either.add_argument("--label", help="label of the version to ask, such as stable")
    add("--images", required=True, help="a.png,b.jpg or a folder: the views of one object")
    add("--out", required=True, help=f"file to write: {', '.join(FILES)}")
    add("--one_by_one", action="store_true", help="one request for each view, state and all")
    add("--timeout", type=float, default=30, help="seconds for a call [%(default)s]")
    add("--retries", type=int, default=4, help="tries after the first one [%(default)s]")
    return parser


def _paths(images):
    if not os.path.isdir(images):
        return [Path(name) for name in images.split(",")]
    paths = sorted(path for path in Path(images).iterdir() if path.suffix.lower() in PICTURES)
    if not paths:
        raise ValueError(f"Expected pictures ({', '.join(PICTURES)}) in {images}, received none.")
    return paths


def _views(pictures):
    """Pictures as JSON has them."""
    if isinstance(pictures, Picture):
        raise ValueError("Expected a list of pictures, received one.")
    views = [p if isinstance(p, bytes) else Path(p).read_bytes() for p in pictures]
    if not views or not all(views):
        raise ValueError("Expected at least one picture, and no empty one.")
    return [_b64(view) for view in views]


def _b64(content):
    return {"b64": base64.b64encode(content).decode()}


def _bytes(value):
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (TypeError, KeyError, ValueError):
        raise _nonsense("base64 bytes") from None


def _grid(value):
    packed = np.frombuffer(_bytes(value), np.uint8)
    edge = round((8 * packed.size) ** (1 / 3))
    if not edge or edge**3 != 8 * packed.size:
        raise _nonsense("the bits of a cube")
    return np.unpackbits(packed).view(bool).reshape(edge, edge, edge)


def _json_object(content):
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _nonsense(expected, status=200):
    return ServingError(status, f"The server answered nonsense: expected {expected}.")


def _seconds(retry_after):
    """What a Retry-After header asks to wait, a number or a date; 0 where it is neither."""
    try:
        if (text := retry_after or "").isdecimal():
            return float(text)
        return email.utils.parsedate_to_datetime(text).timestamp() - time.time()
    except (TypeError, ValueError, OverflowError):
        return 0.0


def _left(deadline):
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("timed out")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
