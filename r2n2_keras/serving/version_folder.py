"""Writes a version folder that TensorFlow Serving can watch: the model and what belongs to it.

<export_dir>/<N>/saved_model.pb, variables/         the SavedModel
                 assets.extra/tf_serving_warmup_requests
                 assets.extra/golden_request.json, golden_response.json, golden_voxels.json,
                              golden_checks.json
                 assets.extra/model_card.md

The requests show the pictures in `golden_views`. They are renderings of a chair of our own, which
may be given away, and were made by

    python -m r2n2_keras.synthesize --out=DIR --categories=chair --models_per_category=1 --views=5 \
        --seed=0
"""

import errno
import os
import re
from pathlib import Path

from r2n2_keras.data.photos import read_views
from r2n2_keras.errors import InputError
from r2n2_keras.files import replacing
from r2n2_keras.serving import export_check, golden, model_card, signatures, warmup

_GOLDEN_VIEWS = Path(__file__).with_name("golden_views")
# As TensorFlow Serving reads names: `007` is version 7, and what is out of range is none.
_VERSION, _MAX_VERSION = re.compile(r"\s*\+?0*([0-9]{1,19})\s*", re.ASCII), 2**63 - 1


def export_version(model, export_dir: str, *, threshold: float, card: str) -> str:
    """Writes the next numbered version of an `R2N2`, beside those that are there; gives its folder.

    A server that watches the folder sees a version only when it is whole and checked: it is written
    under a name that is no number, then renamed. Nothing is ever replaced. Raises an InputError
    where the version does not pass `export_check.check`, or there is no number left.
    """
    os.makedirs(export_dir, exist_ok=True)
    final = os.path.join(export_dir, str(_next_version(export_dir)))
    try:
        with replacing(final) as partial:
            described = signatures.signatures_of(model, threshold)
            signatures.make_archive(described).write_out(partial, verbose=False)
            os.makedirs(os.path.join(partial, golden.EXTRA))
            _write_extra(partial, model, described, threshold)
            Path(partial, golden.EXTRA, model_card.FILE).write_text(card)
            if problems := export_check.check(partial):
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
    found = [_VERSION.fullmatch(name) for name in os.listdir(export_dir)]
    numbers = [int(match[1]) for match in found if match]
    number = 1 + max((number for number in numbers if number <= _MAX_VERSION), default=0)
    if number > _MAX_VERSION:
        raise InputError(
            f"Expected versions below {_MAX_VERSION} in {export_dir}, received that one, "
            "after which no number is left. Export to another folder."
        )
    return number


def _write_extra(folder, model, described, threshold):
    pictures = [path.read_bytes() for path in sorted(_GOLDEN_VIEWS.glob("*.png"))]
    named = [(f"view {number}", picture) for number, picture in enumerate(pictures)]
    images = read_views(named, model.image_spec)
    shown = pictures[: golden.VIEWS], images[: golden.VIEWS]
    occupancy = model.predict(shown[1][None], verbose=0)[0]
    checks = {
        name: ((one.golden_requests or one.requests)(*shown), one.output)
        for name, one in described.items()
    }
    golden.write(folder, checks, signatures.golden_answers(occupancy, threshold))
    warmup.write(folder, warmup.make_requests(described, pictures, images))
