"""A headless Chromium, driven over its own protocol: pages are opened, keys pressed, and files saved for real."""

import asyncio
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from tornado.websocket import WebSocketClientConnection, websocket_connect

NAMES = ("chromium", "chromium-browser", "google-chrome")


class Page:
    """An open page."""

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: WebSocketClientConnection, downloads: Path) -> None:
        self._loop, self._socket, self._calls, self.downloads = loop, socket, 0, downloads
        self.errors: list[str] = []
        self.call("Runtime.enable")
        self.call("Page.enable")
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))

    def call(self, method: str, **params: Any) -> Any:
        """Call a method of the protocol, and note errors that scripts raise meanwhile."""
        self._calls += 1
        return self._loop.run_until_complete(self._answer({"id": self._calls, "method": method, "params": params}))

    async def _answer(self, asked: dict[str, Any]) -> Any:
        await self._socket.write_message(json.dumps(asked))
        while True:
            told = json.loads(str(await self._socket.read_message()))
            if told.get("method") == "Runtime.exceptionThrown":
                self.errors.append(str(told["params"]["exceptionDetails"]))
            if told.get("id") == self._calls:
                assert "error" not in told, told
                return told["result"]

    def open(self, path: Path) -> None:
        """Open a file, and wait until it is loaded."""
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.wait(f"document.readyState == 'complete' && location.pathname.endsWith({json.dumps(path.name)})")

    def run(self, script: str) -> Any:
        """The value of a script."""
        done = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until a script is true, at most 20 seconds."""
        for _ in range(200):
            if self.run(condition):
                return
            time.sleep(0.1)
        raise AssertionError(f"never: {condition}")

    def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            self.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=key)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def saved(self, name: str) -> Path:
        """A file that the page lets be saved; waits for it."""
        for _ in range(200):
            if (self.downloads / name).exists():
                return self.downloads / name
            time.sleep(0.1)
        raise AssertionError(f"{name} was never saved")


@contextmanager
def browser() -> Iterator[Page]:
    """A page of a Chromium of its own; skips the test where there is none."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("no Chromium is installed, in which the page could be opened")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        downloads = Path(folder, "downloads")
        downloads.mkdir()
        quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0"]
        words = [program, *quiet, f"--user-data-dir={folder}", "about:blank"]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        loop = asyncio.new_event_loop()
        try:
            port = Path(folder, "DevToolsActivePort")
            for _ in range(300):
                if port.exists() and port.read_text().count("\n"):
                    break
                time.sleep(0.1)
            with urlopen(f"http://127.0.0.1:{port.read_text().split()[0]}/json") as answer:
                place = next(page for page in json.load(answer) if page["type"] == "page")["webSocketDebuggerUrl"]

            async def connect() -> WebSocketClientConnection:
                return await websocket_connect(place, max_message_size=1 << 28)

            yield Page(loop, loop.run_until_complete(connect()), downloads)
        finally:
            process.kill()
            process.wait()
            loop.close()
