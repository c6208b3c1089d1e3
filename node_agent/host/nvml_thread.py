"""The one thread that may call NVML."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

Answer = TypeVar("Answer")


class NvmlThread:
    """Runs one piece of work after the other on a thread of its own.

    Two threads in NVML at once have crashed processes and kernels, and a call into a wedged
    driver blocks for ever. The thread is a daemon, unlike those of ThreadPoolExecutor, which the
    interpreter joins at exit: a wedged driver must not keep the agent from ending.
    """

    def __init__(self) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()  # its only user submits one at a time
        Thread(target=self._run, name="nvml", daemon=True).start()

    def submit(self, work: Callable[[], Answer]) -> Future[Answer]:
        """This will queue the work and give a future of its answer."""
        future: Future[Answer] = Future()

        def answer() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(work())
            except Exception as error:  # boundary: the error belongs to whoever asked; the thread lives on
                future.set_exception(error)

        self._work.put(answer)
        return future

    def stop(self) -> None:
        """This will end the thread after the work that is queued, without waiting for it."""
        self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
