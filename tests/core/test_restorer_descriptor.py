"""A restorer of ours, called as other people's nodes call UPSCALE_MODEL."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hypir_core.engines.feed_forward.descriptor import descriptor_of
from hypir_core.engines.feed_forward.load import load_upscaler, upscaler_of
from hypir_core.engines.feed_forward.options import UpscalerOptions
from hypir_core.errors import SpecMismatchError
from hypir_core.image.ranges import RangeConfig, RangeKind
from hypir_core.models.architectures import build_architecture
from hypir_core.pipeline import restore
from hypir_core.request import Request
from hypir_core.runtime import Runtime
from hypir_core.weights.spec import GeneratorSpec, spec_to_metadata
from tests.core.scene_samples import write_volume_weights, write_weights

pytest.importorskip("spandrel")


def engine_of(path: Path, architecture: str, *, bands: int = 3, kind=RangeKind.pm1, scale=2, **options):
    torch.manual_seed(0)
    words = dict.fromkeys(("trained_on", "trained_with", "licence"), "nothing")
    spec = GeneratorSpec(
        name="tiny",
        architecture=architecture,
        scale=scale,
        in_channels=bands,
        out_channels=bands,
        options=options,
        value_range=RangeConfig(kind=kind),
        **words,
    )
    data = {**options, "in_channels": bands, "out_channels": bands, "scale": scale, "dims": 2}
    save_file(build_architecture(architecture, data, where="test").state_dict(), path, spec_to_metadata(spec))
    return loaded(path)


def loaded(path: Path):
    return load_upscaler(UpscalerOptions(weights=path), torch.device("cpu"), "float32")


@pytest.mark.parametrize(
    ("architecture", "options", "kind"),
    [
        ("compact", {"features": 8, "blocks": 1}, RangeKind.pm1),
        ("residual", {"channels": 8, "blocks": 1, "block": "rcab"}, RangeKind.zscore),
        ("stochastic", {"channels": 8, "blocks": 1, "noise_dim": 4}, RangeKind.pm1),
    ],
)
def test_it_gives_what_the_pipeline_gives(tmp_path, architecture, options, kind):
    engine = engine_of(tmp_path / "w.safetensors", architecture, kind=kind, **options)
    image = torch.rand(1, 3, 21, 34)
    model = descriptor_of(engine, where="w.safetensors")
    assert (model.scale, model.input_channels, model.output_channels) == (2, 3, 3)
    ours = restore(engine, image, Request(), Runtime()).image_01
    torch.testing.assert_close(model(image).clone(), ours, atol=2e-5, rtol=0)
    foreign = restore(upscaler_of(model, label="w"), image, Request(), Runtime()).image_01
    torch.testing.assert_close(foreign, ours, atol=2e-4, rtol=0)


def test_a_grey_one_sees_each_colour_for_itself(tmp_path):
    engine = engine_of(tmp_path / "w.safetensors", "compact", bands=1, features=8, blocks=1)
    image = torch.rand(2, 3, 16, 16)
    both = descriptor_of(engine, where="w")(image)
    for number in range(2):
        for color in range(3):
            single = image[number : number + 1, color : color + 1]
            alone = restore(engine, single, Request(), Runtime()).image_01[0, 0]
            torch.testing.assert_close(both[number, color].clone(), alone, atol=2e-5, rtol=0)


def test_other_things_than_pictures_are_refused_in_one_sentence(tmp_path):
    bands = loaded(write_weights(tmp_path / "bands.safetensors", 13))
    volume = loaded(write_volume_weights(tmp_path / "volume.safetensors", white=4000))
    values = loaded(write_weights(tmp_path / "values.safetensors", 3, white=10000))
    for engine, got in (
        (bands, r"13 → 13 channels, 2 axes;"),
        (volume, r"1 → 1 channels, 3 axes"),
        (values, r"the file's own values;"),
    ):
        with pytest.raises(
            SpecMismatchError, match=f"x: expected a restorer of pictures.*{got}.*hypir restore"
        ):
            descriptor_of(engine, where="x")
