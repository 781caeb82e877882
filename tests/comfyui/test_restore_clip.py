"""Restore Clip in a running ComfyUI: a film that is a file is read and written as the command does it."""

from __future__ import annotations

import pytest

from tests.comfyui.test_server import node
from tests.core.clip_maker import av, make_clip, sound_of, times_of
from tests.core.test_clip_files import pan

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]


@pytest.mark.parametrize(("pixels", "codec"), [("yuv420p", "h264"), ("yuv420p10le", "hevc")])
def test_times_sound_and_depth_are_the_films(comfyui, pixels, codec):
    source = comfyui.base / "input" / f"{pixels}.mp4"
    make_clip(source, pan(5), times=[0, 3000, 9000, 10500, 15000], sound="aac", pixels=pixels)
    temp = comfyui.base / "temp"
    before = set(temp.glob("onestep_*")) if temp.exists() else set()
    run = comfyui.run(
        {
            "load": node(comfyui, "LoadVideo", file=source.name),
            "restore": node(comfyui, "HypirRestoreClip", video=["load", 0]),
            "text": node(comfyui, "PreviewAny", source=["restore", 1]),
        }
    )
    assert run.error is None, run.error
    (made,) = set(temp.glob("onestep_*")) - before
    assert times_of(made) == times_of(source)
    assert sound_of(made) == sound_of(source)
    with av.open(str(made)) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt, context.width) == (codec, pixels, 128)
    assert comfyui.outputs(run)["text"]["text"][0].startswith("5 frames, 1 shot, 32×24 → 128×96 px")
    assert not list(temp.glob(".onestep_*"))
