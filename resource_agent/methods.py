"""Methods of a client, made of the functions that put a question together: one to wait for, one to await."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from resource_agent.transport import Question

P = ParamSpec("P")
T = TypeVar("T")


def waiting(build: Callable[P, Question[T]]) -> Callable[Concatenate[Any, P], T]:
    """This will give the method that asks what `build` puts together, and gives the answer."""

    @wraps(build)
    def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        answer: T = self._ask(build(*args, **kwargs))
        return answer

    return _with_self(method, build)


def awaited(build: Callable[P, Question[T]]) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """This will give the same for asyncio."""

    @wraps(build)
    async def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        answer: T = await self._ask(build(*args, **kwargs))
        return answer

    return _with_self(method, build)


def _with_self(method: Callable[Concatenate[Any, P], T], build: Callable[P, Any]) -> Callable[Concatenate[Any, P], T]:
    """This will let `help` and notebooks show the arguments that the method really takes."""
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    taken = inspect.signature(build)
    given = str(taken.return_annotation).removeprefix("Question[").removesuffix("]")
    shown = taken.replace(parameters=[own, *taken.parameters.values()], return_annotation=given)
    method.__signature__ = shown  # type: ignore[attr-defined]
    return method
