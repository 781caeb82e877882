"""The tagger and the prompts against the original's numbers (tests/golden/seesr, made by SeeSR's own code)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hypir_core.models.tagger.ram import prepare
from hypir_core.tags.files import load_ram
from hypir_core.tags.find import find_tagger
from hypir_core.tags.prompt import original_prompt
from hypir_core.tags.tagger import Tagger

pytestmark = pytest.mark.parity

GOLDEN = Path(__file__).parents[1] / "golden" / "seesr"
RAM = GOLDEN / "ram"
ABOUT = json.loads((GOLDEN / "cases.json").read_text())
NUMBERS = load_file(GOLDEN / "tagger.safetensors")


@pytest.fixture(scope="module", params=["ram", "dape"])
def tagger(request: pytest.FixtureRequest) -> tuple[str, Tagger]:
    lora = RAM if request.param == "dape" else None
    found = find_tagger(RAM, lora, want_lora=False, tag_list=RAM, dtype="float32")
    assert not found.notes
    return request.param, found.tagger


def picture(number: int) -> torch.Tensor:
    return NUMBERS[f"picture_{number}_uint8"][None] / 255


def test_the_prepared_picture_is_the_same():
    prepared = prepare(picture(0), 384, antialias=False)
    assert torch.equal(prepared[:, :, ::8, ::8], NUMBERS["input_0_every_8th"])


@pytest.mark.parametrize("number", range(3))
def test_cells_tokens_logits_and_tags(tagger: tuple[str, Tagger], number: int):
    weights, tag = tagger
    net = load_ram(tag.file, torch.float32)
    prepared = prepare(picture(number), net.side_px, antialias=False)
    with torch.no_grad():
        tokens, logits = net(prepared)
        cells = net.visual_encoder(prepared)
    expected = NUMBERS[f"{weights}_tokens_{number}"]
    every = tokens if expected.shape == tokens.shape else tokens[:, ::12]
    for got, wanted in ((every, expected), (logits, NUMBERS[f"{weights}_logits_{number}"])):
        torch.testing.assert_close(got, wanted, atol=2e-5, rtol=0)
    if number == 0:
        seen = torch.cat([cells.mean(1, keepdim=True), cells], 1)
        torch.testing.assert_close(seen, NUMBERS[f"{weights}_swin_0"], atol=2e-5, rtol=0)

    looked = tag.look(picture(number), reference=True)
    torch.testing.assert_close(looked.tokens, tokens, atol=1e-6, rtol=0)
    case = next(c for c in ABOUT["tagger"] if (c["picture"], c["weights"]) == (number, weights))
    assert ", ".join(t.name for t in looked.tags) == case["tags"]


def test_the_prompt_of_every_case_is_the_same():
    tag = find_tagger(RAM, RAM, tag_list=RAM, dtype="float32").tagger
    for case in ABOUT["cases"]:
        lq = load_file(GOLDEN / case["file"])["lq_uint8"][None] / 255
        tags = [seen.name for seen in tag.look(lq, reference=True).tags]
        assert original_prompt(tags, case["user_prompt"], case["added_prompt"]) == case["prompt"], case[
            "name"
        ]
