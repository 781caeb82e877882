"""Condition pictures: at the wanted size, in [0,1], true to the picture; guides as they are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hypir_core.conditions.base import ConditionSettings
from hypir_core.conditions.catalog import condition_picture, load_condition
from hypir_core.conditions.guide import Guide, parse_guide, parse_guides
from hypir_core.errors import ConfigError, ImageFileError, ShapeError, UnknownNameError, WeightsError
from hypir_core.image.resize import resize

CPU = torch.device("cpu")


def square(side: int = 48) -> torch.Tensor:
    """A bright square on dark ground."""
    image = torch.full((1, 3, side, side), 0.1)
    image[..., side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = 0.9
    return image


@pytest.mark.parametrize("scale", [1, 4])
def test_edges_are_lines_where_the_picture_has_them_whatever_the_scale(scale):
    side = 48 * scale
    made = condition_picture("edge", None, square(), (side, side)).picture_01
    assert made.shape == (1, 3, side, side)
    assert set(made.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(made[:, 0], made[:, 2])
    y, x = made[0, 0].nonzero().T
    for low, high in ((y.min(), y.max()), (x.min(), x.max())):
        assert abs(int(low) - 12 * scale) <= scale
        assert abs(int(high) - 36 * scale) <= scale
    assert made[..., side // 3 : -side // 3, side // 3 : -side // 3].sum() == 0
    for column in range(15 * scale, 33 * scale):  # the lines have no holes
        assert made[0, 0, :, column].sum() >= 2


def test_edges_do_not_depend_on_blocks_and_obey_thresholds(monkeypatch):
    generator = torch.Generator().manual_seed(3)
    image = resize(torch.rand(2, 3, 9, 11, generator=generator), (90, 110)).clamp(0, 1)
    whole = condition_picture("edge", None, image, (90, 110)).picture_01
    monkeypatch.setattr("hypir_core.conditions.edge.BLOCK_PX", 64)
    assert torch.equal(condition_picture("edge", None, image, (90, 110)).picture_01, whole)
    counts = [
        condition_picture(
            "edge", None, image, (90, 110), settings=ConditionSettings(edge_low=low, edge_high=high)
        ).picture_01.sum()
        for low, high in ((0.05, 0.1), (0.4, 0.8), (0.9, 1.0))
    ]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[2]


@pytest.fixture(scope="module")
def depth_folder(tmp_path_factory) -> Path:
    """A depth-estimation model of transformers with random numbers, as its own tools write it."""
    from transformers import (
        DepthAnythingConfig,
        DepthAnythingForDepthEstimation,
        Dinov2Config,
        DPTImageProcessor,
    )

    folder = tmp_path_factory.mktemp("depth")
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 28,
        "out_features": ["stage1", "stage2"],
        "reshape_hidden_states": False,
    }
    backbone = Dinov2Config(**sizes)
    config = DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=14,
        reassemble_hidden_size=16,
        reassemble_factors=[2, 1],
        neck_hidden_sizes=[8, 16],
        fusion_hidden_size=8,
        head_hidden_size=8,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: Any = DepthAnythingForDepthEstimation(config)
        for weight in model.parameters():  # the usual start is so near to zero that nothing is seen
            if weight.ndim > 1:
                torch.nn.init.normal_(weight, std=weight[0].numel() ** -0.5)
        torch.nn.init.constant_(model.head.conv3.bias, 1.0)
        model.save_pretrained(folder)
    DPTImageProcessor(size={"height": 28, "width": 42}).save_pretrained(folder)
    return folder


def test_depth_is_what_the_model_says(depth_folder):
    from transformers import AutoImageProcessor, AutoModelForDepthEstimation

    image = (square() * 255).round() / 255
    made = condition_picture(
        "depth", None, image, (30, 50), settings=ConditionSettings(depth_model=str(depth_folder))
    ).picture_01
    assert made.shape == (1, 3, 30, 50)
    assert made.min() >= 0
    assert made.max() <= 1
    pixels = AutoImageProcessor.from_pretrained(depth_folder)(
        images=Image.fromarray((image[0].permute(1, 2, 0) * 255).round().byte().numpy()), return_tensors="pt"
    )
    with torch.no_grad():
        depth = AutoModelForDepthEstimation.from_pretrained(depth_folder)(**pixels).predicted_depth[None]
    expected = (depth - depth.min()) / (depth.max() - depth.min())
    assert expected.std() > 0.05
    torch.testing.assert_close(made[:, :1], resize(expected, (30, 50)).clamp(0, 1), atol=1e-5, rtol=0)


def test_a_distance_becomes_nearness(depth_folder, tmp_path):
    import json
    import shutil

    metric = tmp_path / "metric"
    shutil.copytree(depth_folder, metric)
    config = json.loads((metric / "config.json").read_text())
    (metric / "config.json").write_text(
        json.dumps(config | {"depth_estimation_type": "metric", "max_depth": 20})
    )
    made = [
        condition_picture(
            "depth", None, square(), (28, 42), settings=ConditionSettings(depth_model=str(folder))
        ).picture_01
        for folder in (depth_folder, metric)
    ]
    relative, turned = (picture[0, 0].flatten() for picture in made)
    assert torch.corrcoef(torch.stack([relative, turned]))[0, 1] < -0.5


def test_a_depth_model_is_found_or_named(depth_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match="hf download depth-anything/Depth-Anything-V2-Small-hf"):
        load_condition("depth")
    with pytest.raises(WeightsError, match="given path: nowhere: no such folder"):
        load_condition("depth", settings=ConditionSettings(depth_model="nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        WeightsError, match="empty: transformers cannot load this as a depth-estimation model"
    ):
        load_condition("depth", settings=ConditionSettings(depth_model=str(tmp_path / "empty")))
    cached = tmp_path / "models--depth-anything--Depth-Anything-V2-Small-hf" / "snapshots" / ("0" * 40)
    cached.parent.mkdir(parents=True)
    cached.symlink_to(depth_folder, target_is_directory=True)
    assert load_condition("depth")(square(), (16, 16)).picture_01.shape == (1, 3, 16, 16)


def test_a_given_picture_is_brought_to_size(tmp_path):
    path = tmp_path / "lines.png"
    Image.linear_gradient("L").resize((40, 30)).save(path)
    made = condition_picture("given", path, square(), (60, 80))
    assert made.picture_01.shape == (1, 3, 60, 80)
    assert made.notes == ()
    assert made.picture_01[0, 0, 50].mean() > made.picture_01[0, 0, 10].mean() + 0.5
    stretched = condition_picture("edge", path, square(), (60, 60))
    assert stretched.notes == (f"{path}: 40×30 px have another shape than the picture, 60×60; stretched",)
    tensor = torch.rand(2, 1, 8, 8)
    assert torch.equal(condition_picture("given", tensor, square(), (8, 8)).picture_01[:, 2:], tensor)


def test_bad_pictures_are_told_before_the_run(tmp_path):
    with pytest.raises(ImageFileError, match=r"missing\.png"):
        load_condition("given", tmp_path / "missing.png")
    with pytest.raises(ConfigError, match="'given' needs a picture, given=FILE"):
        load_condition("given")
    with pytest.raises(UnknownNameError, match="did you mean 'depth'"):
        load_condition("deph")
    with pytest.raises(ShapeError, match="grey or RGB"):
        load_condition("given", torch.rand(1, 2, 4, 4))
    with pytest.raises(ConfigError, match="edge_low ≤ edge_high"):
        ConditionSettings(edge_low=0.5, edge_high=0.2)


@pytest.mark.parametrize(
    ("text", "guide"),
    [
        ("edge", Guide(kind="edge")),
        ("depth:0.5", Guide(kind="depth", strength=0.5)),
        ("given=lines.png", Guide(kind="given", source=Path("lines.png"))),
        ("given=lines.png:0.8", Guide(kind="given", source=Path("lines.png"), strength=0.8)),
        ("depth=a=b:c.png:2", Guide(kind="depth", source=Path("a=b:c.png"), strength=2.0)),
        ("given=C:\\lines.png", Guide(kind="given", source=Path("C:\\lines.png"))),
        ("given=C:\\lines.png:0", Guide(kind="given", source=Path("C:\\lines.png"), strength=0.0)),
    ],
)
def test_a_guide_is_read(text, guide):
    assert parse_guide(text) == guide


@given(
    st.sampled_from(["edge", "depth", "given"]),
    st.text("ab.:=\\/ é", min_size=1, max_size=8).filter(lambda s: s[-1] not in ":= "),
    st.floats(0, 2),
)
@settings(max_examples=30, deadline=None)
def test_whatever_the_file_is_called(kind, name, strength):
    read = parse_guide(f"{kind}={name}:{strength!r}")
    assert (read.kind, read.source, read.strength) == (kind, Path(name), strength)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("edge:much", "'much' is no number; expected KIND"),
        ("edge:3", "from 0 to 2"),
        ("edge:nan", "from 0 to 2"),
        ("given", "needs a picture, given=FILE"),
        ("given=", "no file is named"),
        ("given=:0.5", "no file is named"),
        ("edgy", "unknown guide 'edgy' .did you mean 'edge'"),
    ],
)
def test_a_wrong_guide_says_what_is_wrong(text, message):
    with pytest.raises((ConfigError, UnknownNameError), match=message):
        parse_guide(text)


def test_weights_belong_to_guides():
    edge, depth = parse_guides(["edge:0.4", "depth"], ["edge=net.safetensors"])
    assert (edge.weights, edge.strength, depth.weights) == (Path("net.safetensors"), 0.4, None)
    with pytest.raises(ConfigError) as err:
        parse_guides(["edge", "edge"], ["depth=a.bin", "edge", "edge=a", "edge=b"])
    assert [problem.split(";")[0] for problem in err.value.problems] == [
        "guide 'edge' is given twice",
        "guide weights 'depth=a.bin': there is no guide 'depth'",
        "guide weights 'edge': expected KIND=FILE, for instance edge=controlnet.safetensors",
        "guide weights of 'edge' are given twice",
    ]
