"""How a blocking client waits for the calls and pauses of one image, there or in a thread that can be ended."""

import time
from threading import Event as Flag
from threading import Lock
from typing import Any, TypeVar

import grpc

_ResponseT = TypeVar("_ResponseT")
_CallT = TypeVar("_CallT", bound="grpc.Future[Any] | grpc.Call")


class Scope:
    """How the calls and pauses for one image are waited for."""

    def wait(
        self, method: "grpc.UnaryUnaryMultiCallable[Any, _ResponseT]", request: Any, timeout_s: float
    ) -> _ResponseT:
        """The answer to one call."""
        return method(request, timeout=timeout_s)

    def around(self, call: _CallT) -> _CallT:
        """The call itself; whoever reads its answers does the waiting."""
        return call

    def pause(self, pause_s: float) -> None:
        time.sleep(pause_s)


class Background(Scope):
    """A scope that another thread can end."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._is_over = Flag()
        self._call: grpc.Future[Any] | grpc.Call | None = None

    def wait(
        self, method: "grpc.UnaryUnaryMultiCallable[Any, _ResponseT]", request: Any, timeout_s: float
    ) -> _ResponseT:
        return self.around(method.future(request, timeout=timeout_s)).result()

    def around(self, call: _CallT) -> _CallT:
        with self._lock:
            self._call = call
            if self._is_over.is_set():
                call.cancel()
        return call

    def pause(self, pause_s: float) -> None:
        self._is_over.wait(pause_s)

    def end(self) -> None:
        """Cancels what is under way, and whatever is begun later."""
        with self._lock:
            self._is_over.set()
            if self._call is not None:
                self._call.cancel()
