"""What a network expects to see of a picture; saved with it, used by everything that feeds it."""

import dataclasses

BACKGROUND, ALPHA = 240, "composite"  # also those of files that do not say
ALPHAS = ("composite", "threshold")


@dataclasses.dataclass(frozen=True)
class ImageSpec:
    """What a network expects to see."""

    image_size: int  # edge of a view in pixels
    channels: int  # 3 for RGB on a background, 4 for raw RGBA
    background: int = BACKGROUND  # grey, 0 to 255, behind transparent pixels; only for RGB
    # "composite" blends by alpha; "threshold" shows the background where alpha is 0 and the bare
    # colour elsewhere, as the original does.
    alpha: str = ALPHA

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.image_size, self.image_size, self.channels
