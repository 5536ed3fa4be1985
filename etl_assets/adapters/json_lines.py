"""The entry point of the containers: `python -m etl_assets.adapters.json_lines <command>`.

It runs the command and turns every line of its output into one shape of JSON line, whoever writes it: the platform,
Dagster's services, a traceback, a library in C. Each line has `timestamp`, `level` in upper case, `logger` and
`message`. SIGTERM and SIGINT are passed on, and the exit code is that of the command.
"""

import json
import os
import re
import selectors
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import IO

_LEVEL = re.compile(r"\W*(DEBUG|INFO|WARNING|ERROR|CRITICAL)\b")
_TRACEBACK = "Traceback (most recent call last):"
_READ_BYTES = 64 * 1024
# Lines of plain text that follow each other within this time are one message, such as a traceback.
_PAUSE_SECONDS = 0.5
_DRAIN_SECONDS = 2.0


def as_json_line(text: str, source: str) -> str:
    """Return a line of JSON for one line of JSON, or for lines of plain text, that `source` has written."""
    try:
        fields = json.loads(text)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        level = _LEVEL.match(text)
        fields = {
            "level": "ERROR" if _TRACEBACK in text else level[1] if level else "INFO",
            "logger": source,
            "message": text,
        }
    elif "message" not in fields and "event" in fields:  # as structlog names it, which Dagster's services use
        fields["message"] = fields.pop("event")
    line = {
        "timestamp": fields.pop("timestamp", None) or datetime.now(UTC).isoformat(timespec="milliseconds"),
        "level": str(fields.pop("level", "INFO")).upper(),
        "logger": fields.pop("logger", source),
        "message": fields.pop("message", ""),
    }
    return json.dumps(line | fields)


class _Stream:
    """A stream of the command, and what is read of it but not written yet."""

    def __init__(self, pipe: IO[bytes], source: str) -> None:
        self.pipe = pipe
        self._source = source
        self._rest = b""
        self._plain: list[str] = []

    def read(self) -> bool:
        """Read what there is, and write its complete lines. Return whether the stream is open."""
        block = os.read(self.pipe.fileno(), _READ_BYTES)
        *lines, self._rest = (self._rest + block).split(b"\n")
        for line in lines:
            self._add(line)
        return bool(block)

    def _add(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        if text.startswith("{"):
            self.flush()
            _write(as_json_line(text, self._source))
        elif text:
            self._plain.append(text)

    def flush(self) -> None:
        """Write the lines of plain text."""
        if self._plain:
            _write(as_json_line("\n".join(self._plain), self._source))
            self._plain.clear()

    def close(self) -> None:
        """Write everything, with an incomplete last line."""
        self._add(self._rest)
        self._rest = b""
        self.flush()


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def run(command: Sequence[str]) -> int:
    """Run a command, and write its output as JSON lines. Return its exit code: 128 plus the signal if one ended it."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # noqa: S603
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: process.send_signal(received))
    assert process.stdout and process.stderr
    streams = [_Stream(process.stdout, "stdout"), _Stream(process.stderr, "stderr")]
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream.pipe, selectors.EVENT_READ, stream)
        deadline = float("inf")
        # A child of the command may keep a stream open after the command has ended.
        while selector.get_map() and monotonic() < deadline:
            ready = selector.select(_PAUSE_SECONDS)
            for key, _ in ready:
                if not key.data.read():
                    selector.unregister(key.fileobj)
            if not ready:
                for stream in streams:
                    stream.flush()
            if process.poll() is not None:
                deadline = min(deadline, monotonic() + _DRAIN_SECONDS)
    for stream in streams:
        stream.close()
    code = process.wait()
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
