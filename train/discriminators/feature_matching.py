"""Feature matching: the image should look like its target to the discriminator's layers too."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def feature_matching(fake: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """Return the mean over the layers of mean |D_l(x) − D_l(x̂)| (Wang et al., arXiv 1711.11585, eq. 4).

    Only `fake` gets a gradient.
    """
    return torch.stack([F.l1_loss(f, r.detach()) for f, r in zip(fake, real, strict=True)]).mean()
