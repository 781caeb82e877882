"""Captions: what each captioner says, how it fails, and that no key leaves the house."""

from __future__ import annotations

import base64
import io
import json
import logging
import threading
import time
import weakref
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from PIL import Image

from hypir_core.caption.base import INSTRUCTION, one_line
from hypir_core.caption.catalog import CAPTIONERS, captioner_names, load_captioner
from hypir_core.caption.chat_server import MODEL, OPENAI_URL, find_server
from hypir_core.caption.length import LengthCheck
from hypir_core.caption.picture import small_picture
from hypir_core.caption.vlm_files import describe_download
from hypir_core.cli.caption import caption_command
from hypir_core.errors import Cancelled, CaptionError, ConfigError, ShapeError, UnknownNameError

KEY = "sk-test-0123456789"
WORDS = {
    "choices": [{"message": {"role": "assistant", "content": "A cat\non a wall."}, "finish_reason": "stop"}]
}
GREY = torch.full((1, 3, 8, 8), 0.5)


@dataclass
class Reply:
    status: int = 200
    body: Any = field(default_factory=lambda: WORDS)
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0


@dataclass
class Asked:
    path: str
    headers: Any
    body: Any


class ChatServer(ThreadingHTTPServer):
    """A real server that answers with the given replies, the last one for ever."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies = [Reply()]
        self.asked: list[Asked] = []
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append(Asked(self.path, self.headers, json.loads(data) if data else None))
        reply = self.server.replies[min(len(self.server.asked), len(self.server.replies)) - 1]
        time.sleep(reply.delay_s)
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        try:
            self.send_response(reply.status)
            for name, value in {"Content-Length": str(len(body)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
        except OSError:  # the client did not wait
            self.close_connection = True

    def do_GET(self) -> None:
        self.do_POST()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        del format, args


@pytest.fixture
def server():
    with ChatServer() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in ("API_KEY", "BASE_URL", "MODEL"):
        monkeypatch.delenv(f"HYPIR_CAPTION_{name}", raising=False)
        monkeypatch.delenv(f"OPENAI_{name}", raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def asking(server: ChatServer, **options: Any):
    return load_captioner("openai", {"base_url": server.url, "pause_s": 0.01, **options})


def fails(server: ChatServer, **options: Any) -> str:
    with pytest.raises(CaptionError) as caught:
        asking(server, **options)(GREY)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# The catalog


def test_names_and_strict_options():
    assert captioner_names() == ("empty", "fixed", "file", "openai", "tags", "vlm")
    with pytest.raises(UnknownNameError, match="did you mean 'openai'"):
        load_captioner("openay", {})
    with pytest.raises(ConfigError, match=r"unknown key 'modell'.*did you mean 'model'.*--option"):
        load_captioner("openai", {"modell": "x"})
    with pytest.raises(ConfigError, match="text is required"):
        load_captioner("fixed", {})
    with pytest.raises(ConfigError) as caught:
        load_captioner("openai", {"timeout_s": 0, "retries": 11, "longest_side_px": 2000, "pause_s": -1})
    assert len(str(caught.value).splitlines()) == 4
    with pytest.raises(ConfigError, match="max_new_tokens"):
        load_captioner("vlm", {"max_new_tokens": 1})
    assert all(entry.summary for entry in CAPTIONERS)


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("  a\n cat \t here ", "a cat here"),
        ("<think>hm,\na dog?</think>\n\nA cat.", "A cat."),
        ('"A cat."', "A cat."),
        ('"Stop" and "Go"', '"Stop" and "Go"'),
        ("", ""),
    ],
)
def test_one_line(said, line):
    assert one_line(said) == line


def test_small_picture_keeps_the_ratio_and_never_enlarges():
    assert small_picture(torch.rand(1, 3, 40, 80), longest_side_px=64).size == (64, 32)
    assert small_picture(torch.rand(1, 3, 3, 1000), longest_side_px=64).size == (64, 1)
    image_01 = torch.tensor([0.0, 0.5, 1.0, 2.0]).reshape(1, 1, 2, 2)
    grey = small_picture(image_01, longest_side_px=64)
    assert (grey.mode, grey.getpixel((1, 0)), grey.getpixel((1, 1))) == ("RGB", (128,) * 3, (255,) * 3)
    rgba = torch.tensor([1.0, 0.0, 0.0, 0.3]).reshape(1, 4, 1, 1)
    assert small_picture(rgba.half(), longest_side_px=64).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 3, 8, 8), (1, 2, 8, 8), (1, 3, 0, 8)])
def test_small_picture_refuses_other_shapes(shape):
    with pytest.raises(ShapeError, match="expected one picture"):
        small_picture(torch.zeros(shape), longest_side_px=64)


# empty, fixed, file


def test_empty_and_fixed():
    assert load_captioner("empty", {})(GREY) == ""
    fixed = load_captioner("fixed", {"text": " a cat\n"})
    assert fixed(GREY) == fixed(torch.zeros(1, 1, 2, 2)) == "a cat"
    fixed.unload()


def test_file_reads_beside_the_picture_or_the_named_file(tmp_path):
    (tmp_path / "photo.txt").write_bytes("\ufeffÀ la\r\nplage ".encode())
    beside = load_captioner("file", {})
    assert beside(GREY, source=tmp_path / "photo.jpg") == "À la plage"
    assert load_captioner("file", {"path": str(tmp_path / "photo.txt")})(GREY) == "À la plage"
    with pytest.raises(CaptionError, match=r"other\.txt: expected the caption .* there is none"):
        beside(GREY, source=tmp_path / "other.png")
    with pytest.raises(CaptionError, match="path=FILE"):
        beside(GREY)
    (tmp_path / "old.txt").write_bytes("Café".encode("latin-1"))
    with pytest.raises(CaptionError, match="expected text in UTF-8, got byte 0xe9"):
        beside(GREY, source=tmp_path / "old.jpg")
    (tmp_path / "big.txt").write_bytes(b"x" * 70000)
    with pytest.raises(CaptionError, match="64 KiB"):
        beside(GREY, source=tmp_path / "big.jpg")
    (tmp_path / "dir.txt").mkdir()
    with pytest.raises(CaptionError, match="cannot be read"):
        beside(GREY, source=tmp_path / "dir.jpg")


# openai


def test_openai_sends_one_small_picture_and_reads_one_line(server, monkeypatch):
    monkeypatch.setenv("HYPIR_CAPTION_BASE_URL", f"{server.url}/")
    monkeypatch.setenv("HYPIR_CAPTION_API_KEY", f"{KEY}\n")
    monkeypatch.setenv("HYPIR_CAPTION_MODEL", "seer")
    image_01 = torch.zeros(1, 3, 100, 200)
    image_01[:, 0] = 1.0
    assert load_captioner("openai", {"longest_side_px": 64})(image_01) == "A cat on a wall."
    (asked,) = server.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["Authorization"] == f"Bearer {KEY}"
    assert asked.body["model"] == "seer"
    text, picture = asked.body["messages"][0]["content"]
    assert text == {"type": "text", "text": INSTRUCTION}
    head, _, data = picture["image_url"]["url"].partition(",")
    assert head == "data:image/jpeg;base64"
    sent = Image.open(io.BytesIO(base64.b64decode(data)))
    assert (sent.format, sent.size) == ("JPEG", (64, 32))
    assert sent.getpixel((30, 10)) == pytest.approx((255, 0, 0), abs=3)


def test_openai_takes_answers_in_parts_and_tells_of_a_cut(server, caplog):
    message = {"content": [{"type": "text", "text": "A cat"}, {"type": "text", "text": "sits"}]}
    server.replies = [Reply(body={"choices": [{"message": message, "finish_reason": "length"}]})]
    with caplog.at_level(logging.WARNING):
        assert asking(server)(GREY) == "A cat sits"
    assert "cut the caption off" in caplog.text


@pytest.mark.parametrize("busy", [429, 500, 503])
def test_busy_server_is_asked_again(server, busy):
    server.replies = [Reply(busy), Reply(busy), Reply()]
    assert asking(server, retries=2)(GREY) == "A cat on a wall."
    assert len(server.asked) == 3


def test_pauses_double(server):
    server.replies = [Reply(503)]
    start = time.monotonic()
    assert "(3 tries)" in fails(server, retries=2, pause_s=0.1)
    assert 0.3 <= time.monotonic() - start < 2.0


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_counts_instead_of_the_pause(server, form):
    value = "1" if form == "seconds" else formatdate(time.time() + 2, usegmt=True)  # whole seconds: 1 to 2 s
    server.replies = [Reply(429, headers={"Retry-After": value}), Reply()]
    start = time.monotonic()
    assert asking(server, pause_s=60.0)(GREY) == "A cat on a wall."
    assert 0.9 <= time.monotonic() - start < 5.0


def test_too_long_a_wait_is_not_waited_for(server):
    server.replies = [Reply(429, {"error": {"message": "slow down"}}, {"Retry-After": "3600"})]
    assert "429 (slow down), and asks to wait 3600 s" in fails(server)
    assert len(server.asked) == 1


def test_unreadable_retry_after_falls_back_to_the_pause(server):
    server.replies = [Reply(429, headers={"Retry-After": "soon"}), Reply()]
    assert asking(server)(GREY) == "A cat on a wall."


def test_spent_quota_is_not_asked_again(server):
    server.replies = [Reply(429, {"error": {"message": "quota", "code": "insufficient_quota"}})]
    assert "no quota left" in fails(server)
    assert len(server.asked) == 1


def test_timeout_is_tried_again_and_named(server):
    server.replies = [Reply(delay_s=0.6), Reply()]
    assert asking(server, timeout_s=0.2)(GREY) == "A cat on a wall."
    server.replies = [Reply(delay_s=0.4)]
    assert "no answer within 0.1 s (2 tries)" in fails(server, timeout_s=0.1, retries=1)


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (
            Reply(404, {"error": {"message": "no model 'm'"}}),
            "404 no model 'm'; check the model's name; check",
        ),
        (Reply(400, {"error": "no vision"}), "400 no vision; check that the model takes pictures"),
        (Reply(403, b""), "403 Forbidden; no key was sent"),
        (Reply(200, b"<html>hello"), "expected JSON, got '<html>hello'; check the address"),
        (Reply(200, {"answer": 42}), "expected a chat completion"),
        (Reply(200, {"choices": []}), "expected a chat completion"),
        (Reply(200, [1]), "expected a chat completion"),
        (Reply(200, {"choices": [{"message": {"content": None}}]}), "answered without words"),
        (
            Reply(302, b"", {"Location": "http://127.0.0.1:1/v1"}),
            "302 http://127.0.0.1:1/v1; the server sends",
        ),
        (Reply(200, b'{"choices": [', {"Content-Length": "99"}), "expected JSON"),
    ],
)
def test_bad_answers_are_named_at_once(server, reply, says):
    server.replies = [reply]
    assert says in fails(server, model="m")
    assert len(server.asked) == 1


def test_refused_key_is_named_and_never_shown(server, monkeypatch, caplog):
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.replies = [Reply(401, {"error": {"message": f"bad key {KEY}"}})]
    with caplog.at_level(logging.DEBUG):
        text = fails(server)
    assert "401 bad key ***; check the key in HYPIR_CAPTION_API_KEY" in text
    assert KEY not in text + caplog.text


def test_key_goes_only_to_the_server_that_the_environment_names(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("HYPIR_CAPTION_API_KEY", KEY)
    asking(server)(GREY)
    assert "Authorization" not in server.asked[0].headers
    server.replies = [Reply(401, b"")]
    assert f"HYPIR_CAPTION_BASE_URL={server.url}" in fails(server)


def test_find_server_order():
    own = {"HYPIR_CAPTION_BASE_URL": "https://a.example/v1", "HYPIR_CAPTION_API_KEY": "one"}
    common = {"OPENAI_BASE_URL": "https://b.example/v1", "OPENAI_API_KEY": "two"}
    found = find_server(None, None, own | common)
    assert (found.base_url, found.model, found.key) == ("https://a.example/v1", MODEL, "one")
    assert "one" not in repr(found)
    assert find_server("https://b.example:443/v2/", "m", own | common).key == "two"
    assert find_server("http://b.example/v1", "m", own | common).key is None  # not without TLS
    assert find_server(None, None, common | {"HYPIR_CAPTION_API_KEY": "one"}).key == "one"
    assert find_server(None, None, {"OPENAI_API_KEY": "two"}).base_url == OPENAI_URL


def test_unusable_addresses_and_keys():
    for address in (
        "localhost:1234",
        "file:///etc",
        "http://",
        "http://a:b:c",
        "https://a/v1?x=1",
        "https://a /v1",
    ):
        with pytest.raises(ConfigError, match="expected something such as"):
            find_server(address, None, {})
    with pytest.raises(ConfigError, match="no user name") as caught:
        find_server("https://me:secret@a.example/v1", None, {})
    assert "secret" not in str(caught.value)
    with pytest.raises(CaptionError, match="needs a key"):
        find_server(None, None, {"OPENAI_API_KEY": " "})
    for bad in ("a\nb", "a b", "schlüssel"):
        with pytest.raises(CaptionError, match="OPENAI_API_KEY: expected a key") as caught:
            find_server(None, None, {"OPENAI_API_KEY": bad})
        assert bad not in str(caught.value)


def test_no_server_there(server):
    url = server.url
    server.shutdown()
    server.server_close()
    with pytest.raises(
        CaptionError, match=r"cannot be reached \(Connection refused\); check the connection"
    ) as err:
        load_captioner("openai", {"base_url": url})(GREY)
    assert "\n" not in str(err.value)


def test_cancel_ends_the_wait(server):
    server.replies = [Reply(503)]
    start = time.monotonic()
    with pytest.raises(Cancelled):
        asking(server, pause_s=30.0)(GREY, should_stop=lambda: bool(server.asked))
    assert time.monotonic() - start < 5.0


# vlm


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


# Length


def test_length_note():
    pytest.importorskip("open_clip", reason="needs a package that brings CLIP's vocabulary")
    check = LengthCheck()
    assert check.note("a" * 75) == ()
    assert not check._searched, "short captions need no vocabulary"
    assert check.note(INSTRUCTION[:300]) == ()
    (note,) = check.note("cat " * 80)
    assert "75 tokens" in note
    assert "last 5 tokens" in note


def test_length_note_without_a_vocabulary(monkeypatch):
    monkeypatch.setattr("hypir_core.models.sd.prompt.find_spec", lambda _name: None)
    check = LengthCheck()
    assert check.note("cat " * 50) == ()
    assert "80 words" in check.note("cat " * 80)[0]


# The command


def hypir_caption(*words: object) -> int:
    app = typer.Typer()
    app.command()(caption_command)
    return app(args=[str(word) for word in words], standalone_mode=False) or 0


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (8, 6), "red").save(folder / "a.png")
    Image.new("L", (8, 6)).save(folder / "b.jpg")
    (folder / "note.md").write_text("no picture")
    return folder


def test_command_prints_a_line_per_picture(photos, capsys):
    assert hypir_caption(photos, "--captioner", "fixed", "--option", "text=a :cat: [b]") == 0
    out = capsys.readouterr().out
    assert out == f"{photos / 'a.png'}: a :cat: [b]\n{photos / 'b.jpg'}: a :cat: [b]\n"
    assert sorted(p.name for p in photos.iterdir()) == ["a.png", "b.jpg", "note.md"]


def test_command_writes_sidecars_that_the_file_captioner_reads(photos, capsys):
    command = (photos / "*.png", "--captioner", "fixed", "--write-sidecar", "--option")
    assert hypir_caption(*command, "text=été") == 0
    assert (photos / "a.txt").read_text(encoding="utf-8") == "été\n"
    assert hypir_caption(*command, "text=other") == 1
    assert "add --force" in capsys.readouterr().err
    assert (photos / "a.txt").read_text(encoding="utf-8") == "été\n"
    assert hypir_caption(photos / "a.png", "--captioner", "file") == 0
    assert capsys.readouterr().out == f"{photos / 'a.png'}: été\n"
    assert hypir_caption(*command, "text=other", "--force") == 0
    assert (photos / "a.txt").read_text(encoding="utf-8") == "other\n"


def test_command_does_not_ask_for_what_it_may_not_write(photos, server):
    (photos / "a.txt").write_text("mine")
    options = ("--captioner", "openai", "--option", f"base_url={server.url}", "--write-sidecar")
    assert hypir_caption(photos / "a.png", *options) == 1
    assert not server.asked


def test_command_json_holds_captions_notes_and_errors(photos, capsys):
    (photos / "b.txt").write_text("cat " * 80)
    assert hypir_caption(photos, "--captioner", "file", "--json") == 1
    done = capsys.readouterr()
    first, second = json.loads(done.out)["captions"]
    assert "expected the caption" in first["error"]
    assert second["path"] == str(photos / "b.jpg")
    assert second["caption"].startswith("cat cat")
    assert "75 tokens" in second["notes"][0]
    assert second["notes"][0] in done.err


def test_command_stops_at_ctrl_c(photos, monkeypatch):
    def interrupted(_path: Path) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("hypir_core.files.reading.read_picture", interrupted)
    with pytest.raises(Cancelled, match="stopped after 0 of 2 pictures"):
        hypir_caption(photos, "--captioner", "empty")


def test_command_with_nothing_to_do(tmp_path):
    with pytest.raises(ConfigError, match="no pictures found"):
        hypir_caption(tmp_path)
