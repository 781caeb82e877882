"""The captioner that runs a vision-language model here, on tiny random ones, and what it says before a download."""

from __future__ import annotations

import logging
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from hypir_core.caption.catalog import load_captioner
from hypir_core.caption.vlm_files import describe_download
from hypir_core.errors import Cancelled, CaptionError, ConfigError
from tests.core.caption_server import GREY, Reply, server

__all__ = ["server"]


@pytest.fixture(scope="module")
def blip(tmp_path_factory) -> Path:
    """A tiny BLIP with random weights and twenty words, saved as a folder that transformers can load."""
    from transformers import (
        BertTokenizer,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
    )

    folder = tmp_path_factory.mktemp("blip")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{i}" for i in range(20))]
    (folder / "vocab.txt").write_text("\n".join(words))
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    text = {
        "vocab_size": len(words),
        "encoder_hidden_size": 16,
        "bos_token_id": 2,
        "sep_token_id": 3,
        "eos_token_id": 3,
    }
    config = BlipConfig(
        text_config=small
        | text
        | {"pad_token_id": 0, "max_position_embeddings": 64, "initializer_range": 1.0},
        vision_config=small | {"image_size": 32, "patch_size": 16, "initializer_range": 1.0},
    )
    config.image_text_hidden_size = 16
    with torch.random.fork_rng():
        torch.manual_seed(4)
        model = BlipForConditionalGeneration(config)
    with torch.no_grad():
        model.text_decoder.cls.predictions.bias[:5] = -1e4  # words only
    size = {"height": 32, "width": 32}
    tokenizer = BertTokenizer(str(folder / "vocab.txt"))
    BlipProcessor(BlipImageProcessor(size=size), tokenizer).save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def test_vlm_says_what_the_model_says(blip, rng):
    from transformers import BlipForConditionalGeneration, BlipProcessor

    captioner = load_captioner(
        "vlm", {"model": str(blip), "device": "cpu", "dtype": "float32", "max_new_tokens": 8}
    )
    model, processor = BlipForConditionalGeneration.from_pretrained(blip), BlipProcessor.from_pretrained(blip)
    captions = set()
    for _ in range(3):
        image_01 = torch.randint(0, 256, (1, 3, 1, 1), generator=rng).expand(1, 3, 32, 32) / 255
        picture = Image.fromarray((image_01[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy())
        tokens = model.generate(**processor(images=picture, return_tensors="pt"), max_new_tokens=8)
        expected = processor.decode(tokens[0], skip_special_tokens=True)
        assert captioner(image_01) == expected
        captions.add(expected)
    assert len(captions) > 1, "the picture must matter"


def test_vlm_loads_late_and_unloads(blip):
    captioner: Any = load_captioner("vlm", {"model": str(blip), "device": "cpu", "max_new_tokens": 8})
    assert captioner._vlm is None
    said = captioner(GREY)
    model = weakref.ref(captioner._vlm.model)
    assert captioner(GREY) == said
    assert captioner._vlm.model is model()
    captioner.unload()
    assert model() is None
    assert captioner(GREY) == said


def test_vlm_that_ends_before_it_began(blip, caplog):
    captioner: Any = load_captioner("vlm", {"model": str(blip), "device": "cpu", "max_new_tokens": 8})
    with pytest.raises(Cancelled):
        captioner(GREY, should_stop=lambda: True)
    with torch.no_grad():
        captioner._vlm.model.text_decoder.cls.predictions.bias[3] = 1e4  # the end mark
    with caplog.at_level(logging.WARNING), pytest.raises(CaptionError, match="said nothing"):
        captioner(GREY)
    assert "cut off" not in caplog.text


def test_vlm_takes_an_instruction_and_tells_of_a_cut(blip, caplog):
    asked = load_captioner(
        "vlm", {"model": str(blip), "device": "cpu", "max_new_tokens": 8, "instruction": "word7"}
    )
    with caplog.at_level(logging.WARNING):
        assert asked(GREY).startswith("word7")  # BLIP goes on from the words it is given
    assert "cut off at max_new_tokens=8" in caplog.text


def test_vlm_strips_the_question_that_a_chat_model_repeats(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    words = ["<pad>", "<s>", "</s>", "<unk>", "<image>", "USER", "say", *(f"word{i}" for i in range(20))]
    bare = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    bare.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bare,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=["<image>"],
        model_input_names=["input_ids", "attention_mask"],
    )
    template = (
        "<s> {% for m in messages %}USER {% for c in m['content'] %}"
        "{% if c['type'] == 'image' %}<image> {% else %}{{ c['text'] }} {% endif %}{% endfor %}{% endfor %}"
    )
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}),
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
        chat_template=template,
    )
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = LlavaForConditionalGeneration(
            LlavaConfig(
                vision_config=CLIPVisionConfig(**small, image_size=28, patch_size=14),
                text_config=LlamaConfig(**small, **ids, vocab_size=len(words), initializer_range=1.0),
                image_token_index=4,
                **ids,
            )
        )
    with torch.no_grad():
        head = model.get_output_embeddings().weight
        head[:7] = 0.0
        head[7:] *= 10.0  # words only
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    options = {"model": str(tmp_path), "device": "cpu", "dtype": "float32", "max_new_tokens": 8}
    said = load_captioner("vlm", {**options, "instruction": "say"})(torch.rand(1, 3, 28, 28))
    assert len(said.split()) <= 8
    assert all(word.startswith("word") for word in said.split())


def test_vlm_that_is_not_there(tmp_path, monkeypatch, blip):
    missing = load_captioner("vlm", {"model": "nobody/nothing-here", "device": "cpu"})
    with pytest.raises(
        CaptionError, match=r"'nobody/nothing-here' is not in the Hugging Face cache.*download=true"
    ):
        missing(GREY)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CaptionError, match="cannot be downloaded offline"):
        load_captioner("vlm", {"model": "nobody/nothing-here", "device": "cpu", "download": True})(GREY)
    with pytest.raises(CaptionError, match=r"in this folder|cannot load this"):
        load_captioner("vlm", {"model": str(tmp_path), "device": "cpu"})(GREY)
    with pytest.raises(ConfigError, match="device must be"):
        load_captioner("vlm", {"model": str(blip), "device": "gpu"})


def test_vlm_says_before_a_download_what_comes(server):
    files = [
        {"rfilename": "model.safetensors", "size": 1_500_000_000},
        {"rfilename": "pytorch_model.bin", "size": 1_400_000_000},
        {"rfilename": "config.json", "size": 900},
    ]
    server.replies = [Reply(body={"siblings": files, "cardData": {"license": "bsd-3-clause"}}), Reply(404)]
    hub = server.url.removesuffix("/v1")
    text = describe_download("someone/seer", endpoint=hub)
    assert server.asked[0].path == "/api/models/someone/seer?blobs=true"
    assert f"someone/seer from {hub}" in text
    assert "1.5 GB" in text
    assert "bsd-3-clause" in text
    with pytest.raises(CaptionError, match=r"no public model 'someone/seer' \(404"):
        describe_download("someone/seer", endpoint=hub)
