"""The estimate of a request's size: near a tokenizer's count, never smaller for more, and cheap."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgate_core.token_estimate import TOKENS_PER_ATTACHMENT, estimate_tokens
from llmgate_core.wire import Body, encode

ENGLISH = (
    "The gateway passes the caller's bytes through in both directions. Where the client's dialect is one that the "
    "backend speaks, only the changed spans are spliced, and the answer comes back untouched. Nobody re-encodes what "
    "nobody changed, because encoding anew turns numbers into other numbers and costs time."
)
CHINESE = (
    "网关把调用者的字节原样传递。只要客户端的格式是后端能理解的格式，就只替换被改动的部分，回答也原样返回。没有人会重新编码没有人改动过的内容，"
    "因为重新编码会改变数字，而且需要时间。模型的上下文长度有限，请在发送之前估计一下大小。"
)
JAPANESE = (
    "ゲートウェイは呼び出し側のバイト列をそのまま両方向に渡します。クライアントの方言がバックエンドの話すものであれば、"
    "変更された部分だけが差し替えられ、答えはそのまま戻ってきます。"
)
KOREAN = (
    "게이트웨이는 호출자의 바이트를 양방향으로 그대로 전달합니다. 클라이언트의 형식이 백엔드가 이해하는 형식이면 "
    "바뀐 부분만 교체되고 답은 그대로 돌아옵니다."
)
RUSSIAN = (
    "Шлюз передаёт байты вызывающей стороны без изменений в обоих направлениях. Если диалект клиента понятен серверу, "
    "заменяются только изменённые части, а ответ возвращается нетронутым."
)
TOOLS = json.dumps(
    [
        {
            "type": "function",
            "function": {
                "name": f"tool_{number}",
                "description": "Reads a file from the disk",
                "parameters": {
                    "type": "object",
                    "properties": {"path": {"type": "string"}, "limit": {"type": "integer"}},
                    "required": ["path"],
                },
            },
        }
        for number in range(5)
    ]
)


def chat(*contents: Any) -> Body:
    return Body(encode({"model": "m", "messages": [{"role": "user", "content": content} for content in contents]}))


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


@pytest.mark.parametrize(
    ("text", "counted"),
    # Counted once with npm gpt-tokenizer@3, encoding o200k_base.
    [(ENGLISH, 59), (CHINESE, 78), (JAPANESE, 67), (KOREAN, 49), (RUSSIAN, 46), (TOOLS, 336)],
    ids=["english", "chinese", "japanese", "korean", "russian", "tools"],
)
def test_it_is_near_what_a_tokenizer_counts(text: str, counted: int) -> None:
    estimated = estimate_tokens(Body(encode({"content": text})))
    assert 0.8 * counted <= estimated <= 1.5 * counted


@pytest.mark.parametrize("text", [CHINESE, JAPANESE, KOREAN])
def test_escapes_count_as_what_they_stand_for(text: str) -> None:
    plain = estimate_tokens(Body(json.dumps({"content": text}, ensure_ascii=False).encode()))
    escaped = estimate_tokens(Body(json.dumps({"content": text}).encode()))
    assert abs(escaped - plain) <= 0.2 * plain


def test_an_image_counts_the_same_however_large_it_is() -> None:
    small, large = (
        estimate_tokens(chat([image("data:image/png;base64," + base64.b64encode(b"\xfb" * size).decode())]))
        for size in (30, 3_000_000)
    )
    assert small == large
    assert TOKENS_PER_ATTACHMENT <= small <= TOKENS_PER_ATTACHMENT + 50


@pytest.mark.parametrize(
    "part",
    [
        image("https://pictures.example/cat.png"),
        image("data:image/png;base64," + "A" * 4000),
        {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 4000},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 4000}},
        {"type": "input_audio", "input_audio": {"data": "A" * 4000, "format": "wav"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64," + "A" * 4000}},
    ],
    ids=["link", "chat", "responses", "messages", "audio", "file"],
)
def test_attachments_of_every_dialect_are_counted(part: dict[str, Any]) -> None:
    more = estimate_tokens(chat([part, part])) - estimate_tokens(chat([part]))
    assert TOKENS_PER_ATTACHMENT <= more <= TOKENS_PER_ATTACHMENT + 60


def test_a_slash_may_be_escaped() -> None:
    data = encode({"content": [image("data:image/png;base64," + "A/" * 4000)]}).replace(b"A/", b"A\\/")
    assert estimate_tokens(Body(data)) < TOKENS_PER_ATTACHMENT + 50


def test_a_text_that_quotes_an_attachment_is_text() -> None:
    quoted = json.dumps(image("data:image/png;base64," + "A" * 4000))
    assert 1000 <= estimate_tokens(chat(quoted)) < 1100
    assert estimate_tokens(chat('{"type": "image_url"}')) < 50


texts = st.text(max_size=200)


@given(st.lists(texts, max_size=5), texts)
def test_more_is_never_less(contents: list[str], more: str) -> None:
    assert estimate_tokens(chat(*contents, more)) >= estimate_tokens(chat(*contents))


@given(texts, texts)
def test_a_longer_text_is_never_less(text: str, more: str) -> None:
    assert estimate_tokens(chat(text + more)) >= estimate_tokens(chat(text))


@given(st.lists(texts, max_size=5), st.lists(texts, max_size=5))
def test_two_conversations_in_one_count_as_both(one: list[str], other: list[str]) -> None:
    frame = estimate_tokens(chat())
    together = estimate_tokens(chat(*one, *other))
    assert abs(together + frame - estimate_tokens(chat(*one)) - estimate_tokens(chat(*other))) <= 3


@given(st.binary())
def test_any_bytes_have_an_estimate(data: bytes) -> None:
    assert estimate_tokens(Body(data)) >= 0


def test_it_costs_no_more_than_a_decoding_or_two() -> None:
    body = chat(*[ENGLISH + CHINESE] * 3000, [image("data:image/png;base64," + "A" * 1_000_000)])

    def best(work: Any) -> float:
        times = []
        for _ in range(5):
            started = time.perf_counter()
            work()
            times.append(time.perf_counter() - started)
        return min(times)

    def ratio() -> float:
        return best(lambda: estimate_tokens(body)) / best(lambda: json.loads(body.bytes))

    # A busy machine may give one of the two less of its time, but not five times over.
    assert min(ratio() for _ in range(5)) < 2
