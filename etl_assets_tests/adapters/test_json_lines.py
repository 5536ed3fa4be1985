"""The entry point of the containers, which turns all output into JSON lines."""

import json
import signal
import subprocess
import sys
from time import monotonic
from typing import Any

import pytest

ENTRY_POINT = [sys.executable, "-m", "etl_assets.adapters.json_lines"]
DAGSTER_SERVICE = """
import logging
from dagster._utils.log import configure_loggers
configure_loggers(formatter="json")
logger = logging.getLogger("dagster.daemon")
logger.critical("cannot go on")
try:
    raise ConnectionError("nobody answers")
except ConnectionError:
    logger.exception("failed")
"""
PLATFORM = """
import etl_assets.definitions, logging
logging.getLogger("etl_assets.alerts").critical("etl failed", extra={"alert": {"job": "etl"}})
"""


def lines_of(program: str, **how: Any) -> list[dict[str, Any]]:
    command = [*ENTRY_POINT, sys.executable, "-c", program]
    completed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, **how)
    assert completed.stderr == ""
    return [json.loads(line) for line in completed.stdout.splitlines()]


def test_a_line_of_a_service_of_dagster_gets_the_shape_of_the_platform() -> None:
    critical, failed = lines_of(DAGSTER_SERVICE)
    assert {"timestamp", "level", "logger", "message"} <= critical.keys()
    assert (critical["level"], critical["logger"], critical["message"]) == (
        "CRITICAL",
        "dagster.daemon",
        "cannot go on",
    )
    assert failed["level"] == "ERROR"
    assert "nobody answers" in json.dumps(failed)


def test_a_line_of_the_platform_stays_as_it_is() -> None:
    [line] = lines_of(PLATFORM, env={"LOG_FORMAT": "json", "PATH": ""})
    assert (line["level"], line["logger"], line["alert"]) == ("CRITICAL", "etl_assets.alerts", {"job": "etl"})


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("INFO:     Started server process [1]", "INFO"),
        ("WARNING: slow", "WARNING"),
        ("no level at all", "INFO"),
        ('["a list"]', "INFO"),
        ("{not json", "INFO"),
    ],
)
def test_plain_text_becomes_a_message_with_its_level(text: str, level: str) -> None:
    [line] = lines_of(f"print({text!r})")
    assert (line["level"], line["logger"], line["message"]) == (level, "stdout", text)


def test_a_traceback_is_one_line_with_level_error() -> None:
    program = "import sys, traceback\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    traceback.print_exc()"
    [line] = lines_of(program)
    assert (line["level"], line["logger"]) == ("ERROR", "stderr")
    assert line["message"].startswith("Traceback (most recent call last):\n")
    assert line["message"].endswith("ZeroDivisionError: division by zero")


def test_no_output_is_lost_or_reordered() -> None:
    program = """
import sys
for number in range(50_000):
    print('{"message": "%d"}' % number)
sys.stdout.write("without a line break")
"""
    messages = [line["message"] for line in lines_of(program)]
    assert messages == [*map(str, range(50_000)), "without a line break"]


@pytest.mark.parametrize(("ending", "code"), [("sys.exit(3)", 3), ("os.kill(os.getpid(), 9)", 128 + 9)])
def test_the_exit_code_is_that_of_the_command(ending: str, code: int) -> None:
    completed = subprocess.run([*ENTRY_POINT, sys.executable, "-c", f"import os, sys\n{ending}"])
    assert completed.returncode == code


def test_a_signal_to_stop_reaches_the_command_and_its_last_words_are_written() -> None:
    program = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped cleanly"))
print("started", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([*ENTRY_POINT, sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert json.loads(process.stdout.readline())["message"] == "started"
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
    assert json.loads(rest)["message"] == "stopped cleanly"
    assert process.returncode == 1


def test_a_child_that_outlives_the_command_does_not_keep_the_container_running() -> None:
    program = "import subprocess\nsubprocess.Popen(['sleep', '30'])\nprint('done')"
    started = monotonic()
    [line] = lines_of(program)
    assert line["message"] == "done"
    assert monotonic() - started < 20
