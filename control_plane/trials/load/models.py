"""Which models a server has."""

from __future__ import annotations

import asyncio

import orjson

from control_plane.model.errors import InvalidRequest
from control_plane.runtime.clock import Clock
from control_plane.trials.load.connection import ConnectionFailed, Pool
from control_plane.trials.load.requesting import Target

_TIMEOUT_SECONDS = 10.0
# A list of models takes a few hundred bytes a model.
_MOST_BYTES = 1024 * 1024


async def served_models(target: Target, clock: Clock) -> list[str]:
    """This will ask a server for the names of its models. Raises InvalidRequest when it does not say."""
    body, status = bytearray(), [0]

    def take(data: bytes, _: float) -> None:
        body.extend(data[: _MOST_BYTES - len(body)])

    address = target.address
    key = "" if target.api_key is None else f"Authorization: Bearer {target.api_key}\r\n"
    request = f"GET {address.path}/v1/models HTTP/1.1\r\nHost: {address.netloc}\r\n{key}\r\n".encode()
    pool = Pool(address, clock)
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            connection = await pool.connect()
            try:
                await connection.exchange(request, on_data=take, on_status=lambda code: status.__setitem__(0, code))
            finally:
                connection.close()
        if status[0] != 200:
            raise InvalidRequest(f"{address.netloc} answers /v1/models with HTTP {status[0]}; name the model")
        return [str(model["id"]) for model in orjson.loads(bytes(body))["data"]]
    except ConnectionFailed as error:
        raise InvalidRequest(f"no server answers at {address.netloc}: {error}") from error
    except TimeoutError as error:
        raise InvalidRequest(f"{address.netloc} does not answer within {_TIMEOUT_SECONDS:g} s") from error
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise InvalidRequest(f"{address.netloc} does not list its models as the OpenAI API does; name one") from error
