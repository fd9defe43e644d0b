"""Writes a version folder that TensorFlow Serving can watch: the model and what belongs to it.

<export_dir>/<N>/saved_model.pb, variables/         the SavedModel
                 assets.extra/tf_serving_warmup_requests
                 assets.extra/golden_request.json, golden_response.json, golden_voxels.json
                 assets.extra/model_card.md
"""

import errno
import os
import tempfile
from pathlib import Path

from r2n2_keras.atomic import replacing
from r2n2_keras.errors import InputError
from r2n2_keras.serving import artefact, golden, model_card, signatures, warmup
from r2n2_keras.serving.preprocess import read_views
from r2n2_keras.shapes import dataset

_MOST = 2**63 - 1


def export_version(model, export_dir: str, *, frame, threshold: float, card: str) -> str:
    """Writes the next numbered version of a model, beside those that are there.

    A server that watches the folder sees a version only when it is whole and checked: it is written
    under a name that is no number, then renamed. Nothing is ever replaced.

    Args:
        model: an `R2N2`.
        export_dir: folder of the versions.
        frame: what the model takes.
        threshold: a voxel is occupied where its occupancy is above this.
        card: text of the model card.

    Returns:
        The folder of the new version.

    Raises:
        InputError: what was written does not pass `artefact.check`, or there is no number left.
    """
    os.makedirs(export_dir, exist_ok=True)
    final = os.path.join(export_dir, str(_next_version(export_dir)))
    try:
        with replacing(final) as partial:
            signatures.make_archive(model, frame, threshold).write_out(partial, verbose=False)
            os.makedirs(os.path.join(partial, golden.EXTRA))
            _write_extra(partial, model, frame, threshold)
            Path(partial, golden.EXTRA, model_card.FILE).write_text(card)
            if problems := artefact.check(partial):
                raise InputError(
                    f"Expected an export that answers as the model does, received: "
                    f"{'; '.join(problems)}. Nothing was written."
                )
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        raise InputError(
            f"Expected to write {final}, received that name taken by another export meanwhile. "
            "Export again."
        ) from None
    return final


def _next_version(export_dir):
    names = (name for name in os.listdir(export_dir) if name.isascii() and name.isdecimal())
    # A server takes no larger number, and Python reads no longer one.
    numbers = [int(name) for name in names if len(name.lstrip("0")) <= len(str(_MOST))]
    number = 1 + max((number for number in numbers if number <= _MOST), default=0)
    if number > _MOST:
        raise InputError(
            f"Expected versions below {_MOST} in {export_dir}, received that one, "
            "after which no number is left. Export to another folder."
        )
    return number


def _write_extra(folder, model, frame, threshold):
    pictures = _example_pictures(max(warmup.VIEWS))
    images = read_views([(f"view {n}", picture) for n, picture in enumerate(pictures)], frame)
    asked = images[None, : golden.VIEWS]
    occupancy = model.predict(asked, verbose=0)[0]
    golden.write(folder, pictures[: golden.VIEWS], occupancy, threshold)
    state = signatures.State(model).to_bytes(model.step(None, images[:1]))[0].numpy()
    warmup.write(folder, warmup.make_requests(pictures, images, states=(b"", state)))


def _example_pictures(count):
    """Renderings of a chair of our own: any picture does, and these may be given away."""
    with tempfile.TemporaryDirectory() as folder:
        dataset.write_model(folder, "chair", index=0, num_views=count)
        return [path.read_bytes() for path in sorted(Path(folder).rglob("*.png"))]
