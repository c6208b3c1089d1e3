from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.trials.load.stream import MOST_LINE_BYTES, StreamedAnswer

ANSWER = (
    b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\r\n\r\n'
    b": a remark\n\n"
    b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
    b'data:{"choices":[{"index":0,"delta":{"reasoning_content":"b"}}],"usage":{"completion_tokens":1}}\n\n'
    b'data: {"choices":[{"index":0,"text":"\xc3\xa9","finish_reason":"stop"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,'
    b'"prompt_tokens_details":{"cached_tokens":4}}}\n\n'
    b"data: [DONE]\n\n"
)


@given(st.lists(st.integers(0, len(ANSWER)), max_size=8))
def test_a_stream_says_the_same_however_it_is_cut(cuts: list[int]) -> None:
    answer, edges = StreamedAnswer(text=[]), [0, *sorted(cuts), len(ANSWER)]
    for index, (begin, end) in enumerate(pairwise(edges)):
        answer.feed(ANSWER[begin:end], float(index))
    assert answer.text == ["a", "b", "é"]
    assert (answer.prompt_tokens, answer.cached_tokens, answer.output_tokens) == (7, 4, 3)
    assert answer.ended
    assert answer.finish_reason == "stop"
    assert answer.error is None
    assert answer.malformed is None
    assert answer.chunk_seconds == sorted(answer.chunk_seconds)


@given(st.binary(max_size=300))
def test_whatever_comes_nothing_is_raised(data: bytes) -> None:
    StreamedAnswer().feed(data + b"\n", 0.0)
    StreamedAnswer().feed(b"data: " + data + b"\n", 0.0)


@pytest.mark.parametrize(
    "event", [b"[]", b"3", b'{"choices":[3]}', b"nonsense", b'{"choices":[{"index":0,"text":"a"},null]}']
)
def test_what_is_no_event_of_this_api_is_malformed(event: bytes) -> None:
    answer = StreamedAnswer()
    answer.feed(b"data: " + event + b"\n\n", 0.0)
    assert answer.malformed is not None


def test_an_error_inside_of_a_stream_is_kept() -> None:
    answer = StreamedAnswer()
    answer.feed(b'data: {"error":{"message":"no more memory"}}\n\n', 0.0)
    assert answer.error == "no more memory"


def test_a_line_without_an_end_does_not_fill_the_memory() -> None:
    answer = StreamedAnswer()
    answer.feed(b"x" * (MOST_LINE_BYTES + 1), 0.0)
    assert answer.malformed is not None
    answer.feed(b"y" * 10, 1.0)


@pytest.mark.parametrize("count", [b"-1", b"true", b'"7"', b"1.5", b"null"])
def test_a_count_that_is_none_is_not_known(count: bytes) -> None:
    answer = StreamedAnswer()
    answer.feed(b'data: {"choices":[],"usage":{"completion_tokens":' + count + b"}}\n\n", 0.0)
    assert answer.output_tokens is None
