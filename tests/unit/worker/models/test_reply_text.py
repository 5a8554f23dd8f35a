"""The text shown of a reply: white space, stop sequences, split characters."""

import random
import time

from chatbot.worker.models.answers.reply_text import ReplyText
from chatbot.worker.prompts import STOP_SEQUENCES


def shown(*chunks: str, stop: tuple[str, ...] = STOP_SEQUENCES) -> list[str]:
    text = ReplyText(stop)
    return [out for out in [*(text.feed(chunk) for chunk in chunks), text.end()] if out]


def test_white_space_around_a_reply_is_dropped() -> None:
    assert "".join(shown(" ", "\n Hello", " there", " \n")) == "Hello there"


def test_white_space_inside_a_reply_is_kept() -> None:
    assert "".join(shown("Hello", "\n", "\n", "  there")) == "Hello\n\n  there"


def test_a_stop_sequence_ends_the_reply() -> None:
    assert "".join(shown("Hello\nHuman: and then")) == "Hello"


def test_a_stop_sequence_split_over_chunks_is_never_shown() -> None:
    chunks = ["Hello", "\nHu", "ma", "n:", " more"]
    assert shown(*chunks) == ["Hello"]


def test_text_that_only_begins_like_a_stop_sequence_is_shown() -> None:
    assert "".join(shown("Hello", "\nHum", "bug")) == "Hello\nHumbug"


def test_a_reply_that_begins_with_a_stop_sequence_is_empty() -> None:
    assert shown("\nHuman:", " me") == []
    assert shown("\n", "Human:", " me") == []


def test_text_is_shown_as_soon_as_no_stop_sequence_can_begin_with_it() -> None:
    text = ReplyText(STOP_SEQUENCES)
    assert text.feed(" Hel") == "Hel"
    assert text.feed("lo") == "lo"
    assert text.feed(" ") == ""
    assert text.feed("you") == " you"


def test_special_tokens_are_dropped_at_the_end_alone() -> None:
    assert shown("Hello", "<|im_", "end|>\n", "<|im_end|>", "</s> ", stop=()) == ["Hello"]
    assert "".join(shown("ChatML ends it with <|im_end|>, and", " a <", "b>", stop=())).endswith(
        "<|im_end|>, and a <b>"
    )
    assert "".join(shown("Hello <|im_e", stop=())) == "Hello <|im_e"
    assert "".join(shown("Hello.<", "/s>", stop=())) == "Hello."
    assert "".join(shown("Now 3, <", "s", ">not 4", "</s>", stop=())) == "Now 3, <s>not 4</s>"


def test_a_long_text_of_tags_is_read_in_time() -> None:
    began = time.process_time()
    assert "".join(shown("<td></td>" * 30_000, "<|EOT|>\n" * 30_000, "x", stop=())).endswith("<|EOT|>\nx")
    assert time.process_time() - began < 2


def test_surrogates_of_one_character_are_joined() -> None:
    assert shown("a\ud83d", "\ude00b", stop=()) == ["a", "😀b"]


def test_a_lone_surrogate_becomes_a_replacement_character() -> None:
    assert "".join(shown("a\ud83d", "b", stop=())) == "a\ufffdb"


def test_the_same_is_shown_however_a_text_is_split() -> None:
    rng = random.Random(7)
    alphabet = ["\n", " ", "Human", ":", "Bot", "Hu", "man", "x", "\nHuman:", "\nBo", "<", "</s>", "<eos>"]
    for _ in range(2000):
        text = "".join(rng.choices(alphabet, k=rng.randint(1, 8)))
        expected = "".join(shown(text))
        chunks, rest = [], text
        while rest:
            n = rng.randint(1, 4)
            chunks.append(rest[:n])
            rest = rest[n:]
        assert "".join(shown(*chunks)) == expected, (text, chunks)
        assert not any(stop in expected for stop in STOP_SEQUENCES)
