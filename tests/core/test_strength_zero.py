"""A strength of 0 gives the resized input back without running a network, and says so."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from hypir_core import ColorFix, Request, Runtime, TargetSize, load_engine, restore
from hypir_core.files.source import ArraySource
from hypir_core.image.resize import resize
from hypir_core.streaming import restore_stream
from tests.core.test_streaming import Rows, pixels

NOTE = "strength 0: the networks did not run"


class MustNotRun(nn.Module):
    def forward(self, x):
        raise AssertionError("the network ran")


@pytest.fixture(scope="module")
def engine():
    loaded = load_engine("built-in", device=torch.device("cpu"), dtype="float32")
    return replace(loaded, net=MustNotRun())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("color_fix", [None, ColorFix.wavelet])
def test_the_input_comes_back_and_the_report_says_so(engine, channels, color_fix):
    image = torch.rand(2, channels, 40, 56, generator=torch.manual_seed(1))
    alpha = torch.rand(2, 1, 40, 56, generator=torch.manual_seed(2))
    request = Request(strength=0, target=TargetSize(scale=1.7), color_fix=color_fix)
    done = restore(engine, image, request, Runtime())
    wanted = resize(image, (68, 95)).clamp(0, 1)
    torch.testing.assert_close(done.image_01, wanted, atol=1e-5, rtol=0)
    assert NOTE in done.report.notes
    assert done.report.stages == ()
    seen = restore(engine, image, request, Runtime(), alpha_01=alpha).alpha_01
    torch.testing.assert_close(seen, resize(alpha, (68, 95)).clamp(0, 1), atol=1e-5, rtol=0)


def test_a_stream_comes_back_too(engine):
    array = pixels(300, 90)
    request, sink = Request(strength=0, target=TargetSize(scale=1.7)), Rows()
    report = restore_stream(engine, ArraySource(array), sink, request, Runtime())
    whole = restore(engine, torch.from_numpy(array).permute(2, 0, 1)[None].float() / 255, request, Runtime())
    assert len(sink.rows) > 1
    torch.testing.assert_close(sink.picture(), whole.image_01, atol=1e-4, rtol=0)
    assert replace(report, seconds=0) == replace(whole.report, seconds=0)


def test_the_least_strength_runs_it(engine):
    with pytest.raises(AssertionError, match="the network ran"):
        restore(engine, torch.rand(1, 3, 24, 24), Request(strength=0.01), Runtime())
