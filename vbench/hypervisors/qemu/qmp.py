"""QMP without asyncio in sight: the only importer of qemu.qmp."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from qemu.qmp import EventListener, QMPClient, QMPError
from qemu.qmp.protocol import ConnectError, StateError
from qemu.qmp.qmp_client import ExecInterruptedError, ExecuteError

from vbench.errors import GuestError, GuestLost

# What it has to say comes to us as exceptions; unhandled it would go to standard error.
logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())


class Refused(GuestError):
    """QEMU does not do what a command asks of it, and says why."""

    def __init__(self, command: str, error_class: str, why: str) -> None:
        super().__init__(f"QEMU refuses {command}: {why}")
        self.error_class = error_class  # QMP's: "CommandNotFound", "GenericError"


class Qmp:
    """One QMP connection for a guest's life, on an event loop of its own thread."""

    def __init__(self, stream: socket.socket, timeout_s: float = 10.0) -> None:
        """Greet QEMU on `stream`. Raises GuestLost if it does not answer in `timeout_s`."""
        self.timeout_s = timeout_s
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._client = QMPClient("vbench")
        self._stops = EventListener(("STOP", "RESUME"))
        self._client.register_listener(self._stops)
        try:
            self._call(self._client.connect(stream), timeout_s)
        except BaseException:
            self.close()
            raise

    def _call(self, coroutine: Any, timeout_s: float) -> Any:
        # wait_for ends the coroutine before it gives up: what it began is undone then.
        future: Future[Any] = asyncio.run_coroutine_threadsafe(
            asyncio.wait_for(coroutine, timeout_s), self._loop
        )
        try:
            return future.result(timeout_s + 5)
        except TimeoutError:
            raise GuestLost(f"QEMU did not answer on QMP within {timeout_s:g} s") from None
        except ExecuteError:
            raise
        except (ConnectError, StateError, ExecInterruptedError, QMPError, EOFError, OSError) as e:
            raise GuestLost(f"the QMP connection ended: {type(e).__name__}: {e}") from e
        except BaseException:
            future.cancel()
            raise

    def execute(self, command: str, arguments: Mapping[str, object] | None = None) -> Any:
        """Run a QMP command and return its `return` value.

        Raises GuestLost if QEMU is gone, Refused.
        """
        try:
            return self._call(
                self._client.execute(command, dict(arguments) if arguments else None),
                self.timeout_s,
            )
        except ExecuteError as error:
            raise Refused(command, error.error_class, str(error)) from error

    def query(self, command: str, arguments: Mapping[str, object] | None = None) -> Any:
        """As `execute`; None where this QEMU does not know the command."""
        try:
            return self.execute(command, arguments)
        except Refused as error:
            if error.error_class == "CommandNotFound":
                return None
            raise

    def stops(self) -> list[tuple[str, float]]:
        """When the guest was stopped and went on, as QEMU's events say: ("STOP" or "RESUME",
        seconds of its host's clock)."""
        events: list[dict[str, Any]] = [dict(each) for each in self._stops.history]
        times = [each["timestamp"] for each in events]
        return [
            (str(each["event"]), at["seconds"] + at["microseconds"] / 1e6)
            for each, at in zip(events, times, strict=True)
        ]

    def quit(self, timeout_s: float) -> None:
        """Ask QEMU to end; the reply may get lost on the way, which is no error."""
        try:
            self._call(self._client.execute("quit"), timeout_s)
        except (GuestLost, ExecuteError):
            return

    def close(self) -> None:
        """Disconnect and end the loop. After QEMU's end a reset of the stream is expected. Safe
        to repeat."""
        if self._loop.is_closed():
            return

        async def disconnect() -> None:
            try:
                await self._client.disconnect()
            # AssertionError: Ctrl-C ended a command, which is disconnecting by itself
            except (EOFError, ConnectionError, QMPError, AssertionError):
                return

        try:
            self._call(disconnect(), 5.0)
        except GuestLost:
            pass
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5.0)
            if not self._thread.is_alive():
                self._loop.close()
