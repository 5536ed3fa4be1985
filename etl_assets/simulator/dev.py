"""The demo lives on: its databases, a totesys in which something happens, and the Dagster UI and daemon."""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from heapq import merge
from itertools import count
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import indent, shorten
from threading import Event as Flag
from threading import Thread
from time import sleep

from etl_assets.adapters.postgres import Connection, DatabaseUnavailableError, connect
from etl_assets.adapters.settings import Variable
from etl_assets.schema.errors import PermanentError
from etl_assets.simulator import folder, postgres
from etl_assets.simulator.activity import Event, Totesys, create_missing_tables
from etl_assets.simulator.folder import TOTESYS, WAREHOUSE_DATABASE, progress
from etl_assets.simulator.live import follow, now, plan, plan_mishaps
from etl_assets.simulator.runs import Runs, copy_newest_page

PORT = 3000
SPEED = 300.0
"""So many times as fast as a working day of the real totesys: an order every few seconds."""

_HOST = "127.0.0.1"
_SECONDS_TO_STOP = 5
_COPY_PAGE_EVERY = timedelta(seconds=10)
_LISTENING = "0A"  # proc(5), /proc/net/tcp
_GUIDE = """
The Dagster UI is {url}. What to look at:
  now      {url}/overview/activity/timeline (1hr): a run of `etl` whenever totesys has changed
           {url}/automation: the sensors and schedules that launch it
           {url}/assets/warehouse/fact_sales_order: what each load changed
           {page}: the reports, renewed every quarter of an hour
  1 min    a clerk mistypes a date in totesys. The row is quarantined, and soon an ALERT is printed here
  3 min    an order is deleted in totesys. The warehouse keeps its history
  6 min    the clerk corrects the date. The row is loaded, and the alert recovers
Databases, and what gives another shell this Python and all variables (a notebook reads {environment}):
  {psql}
  {shell}
Dagster's output is in {log}. Ctrl-C ends everything.
"""


def dev(port: int = PORT, speed: float = SPEED) -> None:
    """Run the demo's databases, a live totesys, and the Dagster UI and daemon, until interrupted."""
    with folder.stopped_by_signals():
        folder.environment()
        url, command = f"http://{_HOST}:{port}", folder.command("dev", port=port)
        with folder.in_use(command):
            _check_port(port)
            with folder.databases(command, shared=True) as server, connect(server.url(TOTESYS)) as connection:
                create_missing_tables(connection)
                totesys = Totesys(connection)
                runs = Runs(raise_on_error=False)  # the UI shows why a run failed
                with progress("catching up: what happened in totesys since, captured and loaded"):
                    _catch_up(connection, totesys)
                    runs.etl()
                with _dagster(port, url):
                    print(_guide(server, url), flush=True)
                    _live(totesys, speed)


def databases() -> None:
    """Run the demo's databases until interrupted."""
    with folder.stopped_by_signals():
        folder.environment()
        with folder.databases(folder.command("databases")) as server:
            print(f"{_psql(server)}\n{_shell()}\nCtrl-C ends them.", flush=True)
            signal.pause()


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Dagster's webserver
        try:
            probe.bind((_HOST, port))
        except OSError:
            another = folder.command("dev", port=port + 1)
            raise PermanentError(f"Port {port} is taken{_listener(port)}. Choose another: {another}") from None


def _listener(port: int) -> str:
    """Return who listens on a port, if this user may know it."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                _, local, _, state, _, _, _, _, _, inode, *_ = line.split()
                if state == _LISTENING and int(local.rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{inode}]")
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if any(str(file.readlink()) in inodes for file in (process / "fd").iterdir()):
                command = (process / "cmdline").read_text().replace("\0", " ").strip()
                return f" by process {process.name}, {shorten(command, 80, placeholder=' …')}"
    return ""


def _catch_up(connection: Connection, totesys: Totesys) -> None:
    """Simulate the working days since the latest transaction, without today, and end a mishap that was interrupted."""
    [[latest]] = connection.run("SELECT max(created_at)::date FROM transaction")
    for days in range(1, (now().date() - latest).days):
        totesys.simulate_day(latest + timedelta(days=days))
    totesys.correct_dates(now())


def _live(totesys: Totesys, speed: float) -> None:
    """Let things happen, for ever. Print what a person did wrong."""
    start = now()
    copies = (Event(start + number * _COPY_PAGE_EVERY, _copy_page) for number in count())
    streams = plan(totesys, start, speed), plan_mishaps(totesys, start), copies
    try:
        for happened in follow(merge(*streams, key=attrgetter("at"))):
            if happened:
                print(f"{now():%H:%M:%S} totesys: {happened}", flush=True)
    except DatabaseUnavailableError:
        raise PermanentError("The databases have stopped, so everything else does.") from None


def _copy_page(_: datetime) -> None:
    copy_newest_page()


@contextmanager
def _dagster(port: int, url: str) -> Iterator[None]:
    """Run the Dagster UI and daemon during the block. Alerts and errors are printed, everything is in the log.

    Raises:
        PermanentError: they ended by themselves.
    """
    # Dagster recommends `dg dev`, which needs the sources.
    program = [sys.executable, "-W", "ignore:Function `dev_command`", "-m", "dagster", "dev"]
    options = ["--workspace", str(folder.WORKSPACE), "--host", _HOST, "--port", str(port), "--log-format", "json"]
    stopping = Flag()
    with TemporaryDirectory(prefix="totesys-etl-") as temporary:  # Dagster does not clear what it leaves there
        environment = dict(os.environ)
        environment |= {
            Variable.AUTOMATION: os.environ.get(Variable.AUTOMATION) or "on",
            Variable.LOG_FORMAT: "json",
            Variable.DAGSTER_URL: url,
            "TMPDIR": temporary,
        }
        # In a session of its own: Ctrl-C reaches only this process, which then ends those.
        process = subprocess.Popen(
            [*program, *options],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        relay = Thread(target=_relay, args=(process, stopping))
        relay.start()
        try:
            with progress("starting Dagster"):
                while not _answers(port):
                    sleep(0.2)
            yield
        finally:
            ended_by_itself = process.poll() is not None
            stopping.set()
            for stop, seconds in ((signal.SIGTERM, _SECONDS_TO_STOP), (signal.SIGKILL, None)):
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, stop)
                    relay.join(seconds)
            if ended_by_itself:
                raise PermanentError(f"Dagster has ended by itself: {folder.LOG} says why.")


def _relay(process: subprocess.Popen[str], stopping: Flag) -> None:
    """Write the output of processes to the log, and print alerts and errors. End this one after the last of them.

    What repeats is printed once: a sensor fails every 30 seconds while a database is down.
    """
    assert process.stdout
    printed = {""}
    with folder.LOG.open("w") as log:
        for line in process.stdout:
            log.write(line)
            log.flush()
            if not stopping.is_set() and (text := _worth_printing(line)) not in printed:
                printed.add(text)
                print(f"{now():%H:%M:%S} {text}", flush=True)
    process.wait()
    if not stopping.is_set():
        os.kill(os.getpid(), signal.SIGTERM)


def _worth_printing(line: str) -> str:
    """Return an alert, or the first line of an error, from a line of the log."""
    try:
        fields = json.loads(line)
    except ValueError:
        return ""
    if "alert" in fields:
        return f"ALERT {indent(fields['message'], ' ' * 15).lstrip()}"
    if fields.get("level", "").upper() in ("ERROR", "CRITICAL"):
        return f"error: {fields.get('event') or fields.get('message')} (more in {folder.LOG})"
    return ""


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection((_HOST, port), timeout=1):
        return True
    return False


def _guide(server: postgres.Server, url: str) -> str:
    files = {"page": folder.PAGE.resolve().as_uri(), "environment": folder.ENVIRONMENT, "log": folder.LOG}
    return _GUIDE.format(url=url, psql=indent(_psql(server), "  ").lstrip(), shell=_shell(), **files)


def _psql(server: postgres.Server) -> str:
    """Return the commands that open the databases, with PostgreSQL's own psql if there is no other."""
    psql = "psql" if shutil.which("psql") else postgres.program_file(folder.POSTGRES, "psql")
    return "\n".join(f"{psql} '{server.url(database)}'" for database in (TOTESYS, WAREHOUSE_DATABASE))


def _shell() -> str:
    """Return what gives a shell in this folder this Python, if it is an environment's, and all variables."""
    activate = Path(sys.prefix, "bin", "activate")
    scripts = [Path(os.path.relpath(activate))] if activate.exists() else []
    return "; ".join(f". {shlex.quote(str(script))}" for script in (*scripts, folder.ENVIRONMENT))
