"""Questions to a server that are no load: which models it has, how likely it finds a text."""

from __future__ import annotations

import asyncio

import orjson

from control_plane.model.errors import InvalidRequest
from control_plane.runtime.clock import Clock
from control_plane.trials.load.connection import ConnectionFailed, Pool
from control_plane.trials.load.requesting import Target

_TIMEOUT_SECONDS = 30.0
# The likelihoods of a whole context take some megabytes; a list of models some hundred bytes a model.
_MOST_BYTES = 64 * 1024 * 1024


async def ask(target: Target, clock: Clock, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """This will GET a path, or POST a body to it, and give the status and the answer.

    Raises InvalidRequest when no answer comes.
    """
    answer, status = bytearray(), [0]

    def take(data: bytes, _: float) -> None:
        answer.extend(data[: _MOST_BYTES - len(answer)])

    address = target.address
    key = "" if target.api_key is None else f"Authorization: Bearer {target.api_key}\r\n"
    kind = "" if body is None else f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    verb = "GET" if body is None else "POST"
    head = f"{verb} {address.path}{path} HTTP/1.1\r\nHost: {address.netloc}\r\n{key}{kind}\r\n"
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            connection = await Pool(address, clock).connect()
            try:
                request = head.encode() + (body or b"")
                await connection.exchange(request, on_data=take, on_status=lambda code: status.__setitem__(0, code))
            finally:
                connection.close()
    except ConnectionFailed as error:
        raise InvalidRequest(f"no server answers at {address.netloc}: {error}") from error
    except TimeoutError as error:
        raise InvalidRequest(f"{address.netloc} does not answer within {_TIMEOUT_SECONDS:g} s") from error
    return status[0], bytes(answer)


async def served_models(target: Target, clock: Clock) -> list[str]:
    """This will ask a server for the names of its models. Raises InvalidRequest when it does not say."""
    netloc = target.address.netloc
    status, answer = await ask(target, clock, "/v1/models")
    if status != 200:
        raise InvalidRequest(f"{netloc} answers /v1/models with HTTP {status}; name the model")
    try:
        return [str(model["id"]) for model in orjson.loads(answer)["data"]]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise InvalidRequest(f"{netloc} does not list its models as the OpenAI API does; name one") from error


async def log_likelihoods(target: Target, clock: Clock, text: str) -> list[float] | None:
    """This will ask how likely the model finds each token of a text, given those before it: natural logarithms.

    None when the engine does not say (vLLM does: `echo` with `logprobs`). Raises InvalidRequest when no answer comes.
    """
    asked = {
        "model": target.model, "prompt": text, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1,
    }  # fmt: skip
    status, answer = await ask(target, clock, "/v1/completions", orjson.dumps(asked))
    if status != 200:
        return None
    try:
        said = orjson.loads(answer)["choices"][0]["logprobs"]["token_logprobs"]
    except (orjson.JSONDecodeError, KeyError, TypeError, IndexError):
        return None
    # The first has nothing before it; the last is the one token that had to be made.
    found = [float(value) for value in said[1:-1] if isinstance(value, int | float)] if isinstance(said, list) else []
    return found or None
