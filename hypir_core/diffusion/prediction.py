"""The one step: from a degraded picture's latent straight to the clean one.

The latent of the degraded picture is taken for a noised latent of the clean one at timestep t: nothing is
added to it. The network's prediction at t then gives the clean latent in closed form, without a sampler. Used
for restoration by Lin et al., "Harnessing Diffusion-Yielded Score Priors for Image Restoration" (HYPIR),
arXiv 2507.20590, section 4, with t = 200 for both the network and the coefficients.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..weights.spec import Prediction


def one_step_x0(
    z: Tensor, predict: Callable[[Tensor], Tensor], *, a_bar: float, kind: Prediction = Prediction.eps
) -> Tensor:
    """Return the clean latent; training and inference both call this.

    Args:
        z: latent of the degraded picture times the VAE's scaling factor, [n c h w], any floating format.
        predict: the UNet at the trained timestep under the picture's prompt: z → a prediction shaped like it.
        a_bar: ā at the coefficients' timestep, in (0, 1].
        kind: what the UNet predicts.

    Returns:
        x0 like `z`, in the same scaled units, float32. Gradients flow through `predict` and `z`.
    """
    return predict_x0(z, predict(z), a_bar=a_bar, kind=kind)


def predict_x0(z: Tensor, prediction: Tensor, *, a_bar: float, kind: Prediction = Prediction.eps) -> Tensor:
    """Solve z = √ā·x0 + √(1 − ā)·ε for x0.

    With ε given: x0 = (z − √(1 − ā)·ε) / √ā (Ho et al., arXiv 2006.11239, eq. 4 solved for x0).
    With v = √ā·ε − √(1 − ā)·x0 given: x0 = √ā·z − √(1 − ā)·v (Salimans and Ho, arXiv 2202.00512, appendix D).

    Args:
        z: [n c h w], any floating format.
        prediction: the same shape.
        a_bar: ā in (0, 1]; for Stable Diffusion at t = 200, x0 = 1.151869·z − 0.571666·ε.
        kind: what was predicted.

    Returns:
        [n c h w], float32, not clipped.
    """
    signal, noise = a_bar**0.5, (1 - a_bar) ** 0.5
    z, prediction = z.float(), prediction.float()
    if kind is Prediction.v:
        return signal * z - noise * prediction
    return (z - noise * prediction) / signal
