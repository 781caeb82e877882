"""Mean and spread of every channel, gathered block by block in float64."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class ChannelStatistics:
    """Statistics of some of the pixels of a picture; `merge` joins those of two disjoint parts."""

    count: int
    """Pixels per channel that were looked at."""
    mean: Tensor
    """[b c 1 1], float64, on the CPU."""
    variance: Tensor
    """[b c 1 1], float64, on the CPU; the mean squared distance from `mean` (a single pixel has 0)."""

    def merge(self, other: ChannelStatistics) -> ChannelStatistics:
        """Return the statistics of both parts together.

        Pairwise update of Chan, Golub, LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing
        Sample Variances", 1979: no large sums are subtracted, so nothing is lost on huge pictures.
        """
        count = self.count + other.count
        share = other.count / count
        gap = other.mean - self.mean
        return ChannelStatistics(
            count,
            self.mean + gap * share,
            self.variance + (other.variance - self.variance) * share + gap.square() * share * (1 - share),
        )


def channel_statistics(image_bchw: Tensor) -> ChannelStatistics:
    """Measure every channel of every picture. Shape: [b c h w], any floating dtype, any device."""
    image = image_bchw.float()
    mean = image.mean(dim=(-2, -1), keepdim=True)
    variance = (image - mean).square_().mean(dim=(-2, -1), keepdim=True)
    count = image.shape[-2] * image.shape[-1]
    return ChannelStatistics(count, mean.cpu().double(), variance.cpu().double())
