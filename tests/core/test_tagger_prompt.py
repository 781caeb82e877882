"""Prompts made of tags, a person's text and words about quality: the last ones are always read."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hypir_core.tags.prompt import ROOM, WORDS, build_prompt, original_prompt


def count(text: str) -> int:
    """Count as CLIP about does: words and commas."""
    return len(text.replace(",", " , ").split())


def test_the_original_keeps_the_commas_of_what_is_empty():
    assert original_prompt([], "", WORDS) == ", ,clean, high-resolution, 8k"
    assert original_prompt(["a", "b"], "the cat", WORDS) == "a, b, the cat,clean, high-resolution, 8k"


def test_the_parts_come_in_order_without_commas_of_what_is_empty():
    tags = ["cat", "tree"]
    assert build_prompt(tags, "a zoo", "8k", count_tokens=count).text == "cat, tree, a zoo, 8k"
    assert (
        build_prompt(tags, "a zoo", "8k", count_tokens=count, user_first=True).text == "a zoo, cat, tree, 8k"
    )
    assert build_prompt([], " , ", "8k", count_tokens=count).text == "8k"
    assert build_prompt(tags, "", "", count_tokens=count).text == "cat, tree"
    assert build_prompt([], "", "", count_tokens=count).text == ""


def test_a_tag_that_is_said_already_is_left_out_whatever_its_letters():
    built = build_prompt(["Cat", "tree", "cat", "a Zoo", " "], "a zoo, night", "8k", count_tokens=count)
    assert built.text == "Cat, tree, a zoo, night, 8k"
    assert built.tags == ("Cat", "tree")
    assert build_prompt(["a", "a", "b", "c"], "", "", count_tokens=count, max_tags=2).tags == ("a", "b")


def test_tags_go_first_then_the_end_of_the_text():
    tags = [f"tag{i}" for i in range(60)]
    built = build_prompt(tags, "the cat", WORDS, count_tokens=count)
    assert built.text.endswith(f"the cat, {WORDS}")
    assert count(built.text) in {ROOM - 1, ROOM}
    assert built.tags == tuple(tags[: len(built.tags)])
    assert built.notes == (f"the prompt holds 75 tokens: {60 - len(built.tags)} of 60 tags did not fit",)
    text = " ".join(f"word{i}" for i in range(100))
    built = build_prompt(tags[:3], text, WORDS, count_tokens=count)
    assert built.tags == ()
    assert built.text.startswith("word0 word1 ")
    assert built.text.endswith(f", {WORDS}")
    assert count(built.text) == ROOM
    assert "3 of 3 tags" in built.notes[0]
    assert "it was read as 'word0 word1 " in built.notes[1]


@settings(max_examples=30, deadline=None)
@given(
    tags=st.lists(st.text("ab -", max_size=12), max_size=30),
    user=st.text("xy ,", max_size=60),
    words=st.sampled_from(["", "8k", WORDS]),
    user_first=st.booleans(),
    room=st.integers(9, 80),
)
def test_whatever_comes_it_fits_and_ends_with_the_words(
    tags: list[str], user: str, words: str, user_first: bool, room: int
):
    built = build_prompt(tags, user, words, count_tokens=count, user_first=user_first, room=room)
    assert count(built.text) <= room
    assert built.text.endswith(words)
    assert len({tag.casefold() for tag in built.tags}) == len(built.tags)
    assert all(tag in built.text for tag in built.tags)
    if not built.notes:
        assert {tag.strip() for tag in tags if tag.strip()} <= set(built.tags) | {
            p.strip() for p in user.split(",")
        }
