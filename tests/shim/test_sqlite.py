"""SQLite under the shim: an error at each of its calls in turn, kills, and the count of its commit syncs."""

from __future__ import annotations

import json
import signal

import pytest

# The victim arms its own rules through the control file. For n = 1, 2, 3 ... it starts from a database of one
# committed row, makes call n of a family fail (once, or from there on) during one more transaction, and reopens the
# database without the rule. It stops at the first n that no call reached.
SWEEP = """
import json, os, shutil, sqlite3, sys
from chaos.faults.disk.control import Control
control, store = Control.attach(sys.argv[1]), sys.argv[2]
mode, call, error, count = sys.argv[3], sys.argv[4], sys.argv[5], int(sys.argv[6])

def connect(path):
    db = sqlite3.connect(path, isolation_level=None, timeout=0)
    db.execute(f"PRAGMA journal_mode={mode}")
    db.execute("PRAGMA synchronous=EXTRA")
    return db

rounds = []
for number in range(1, 200):
    folder = f"{store}/{number}"
    os.mkdir(folder)
    db = connect(f"{folder}/main.db")
    db.execute("CREATE TABLE t (x INTEGER)")
    db.execute("INSERT INTO t VALUES (1)")
    control.arm("f0", {"action": "errno", "error": error, "calls": call, "path": f"store/{number}/*", "nth": number, "count": count})
    seen = None
    try:
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO t VALUES (2)")
        db.execute("UPDATE t SET x = x + 10")
        db.execute("COMMIT")
    except sqlite3.Error as problem:
        seen = str(problem)
    injected = control.disarm("f0")["calls_failed"]
    db.close()
    db = connect(f"{folder}/main.db")
    rows = [row[0] for row in db.execute("SELECT x FROM t ORDER BY x")]
    sound = db.execute("PRAGMA integrity_check").fetchone()[0]
    db.close()
    shutil.rmtree(folder)
    folder_only = bool(injected) and all(each.path.endswith("/") for each in control.records()[-injected:])
    rounds.append({"injected": injected, "seen": seen, "rows": rows, "sound": sound, "folder_only": folder_only})
    if not injected:
        break
print(json.dumps(rounds))
"""

BEFORE, AFTER = [1], [11, 12]


@pytest.mark.parametrize("count", [1, 0], ids=["once", "persistent"])
@pytest.mark.parametrize(("call", "error"), [("write", "EIO"), ("write", "ENOSPC"), ("sync", "EIO")])
@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_error_at_every_call(sandbox, mode: str, call: str, error: str, count: int) -> None:
    """An error is seen exactly when one was injected, and the data is as before or as after, never between."""
    out = sandbox.python(SWEEP, sandbox.control.path, sandbox.store, mode, call, error, count).stdout
    rounds = json.loads(out)
    *hit, last = rounds
    assert hit, "at least one call of the family belongs to a commit"
    assert last == {"injected": 0, "seen": None, "rows": AFTER, "sound": "ok", "folder_only": False}
    for each in hit:
        assert each["sound"] == "ok"
        assert each["rows"] in (BEFORE, AFTER)
        # SQLite drops the result of a folder's sync (os_unix.c, unixSync): not every file system can do it.
        assert each["seen"] is not None or each["folder_only"]
    # A commit that reported an error may stand all the same when only the last step failed, but not always.
    assert BEFORE in [each["rows"] for each in hit]


@pytest.mark.parametrize("call", ["open", "truncate", "unlink", "read", "close"])
@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_data_survives_errors_elsewhere(sandbox, mode: str, call: str) -> None:
    """Errors that SQLite may ignore (deleting a journal, closing) still leave the data before or after, and sound."""
    out = sandbox.python(SWEEP, sandbox.control.path, sandbox.store, mode, call, "EIO", 1).stdout
    rounds = json.loads(out)
    assert rounds[-1] == {"injected": 0, "seen": None, "rows": AFTER, "sound": "ok", "folder_only": False}
    for each in rounds:
        assert each["sound"] == "ok"
        assert each["rows"] == AFTER or (each["seen"] and each["rows"] == BEFORE)


COMMITS = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1] + "/main.db", isolation_level=None)
assert db.execute("PRAGMA journal_mode=WAL").fetchone() == ("wal",)
db.execute(f"PRAGMA synchronous={sys.argv[2]}")
db.execute("PRAGMA wal_autocheckpoint=0")
db.execute("CREATE TABLE IF NOT EXISTS t (x)")
from chaos.faults.disk.control import Control
control = Control.attach(sys.argv[3])
for number in range(5):
    before = control.fired("syncs")
    db.execute("INSERT INTO t VALUES (?)", (number,))
    print(control.fired("syncs") - before)
import os; os._exit(0)
"""


@pytest.mark.parametrize(("synchronous", "syncs"), [("FULL", "1"), ("NORMAL", "0"), ("OFF", "0")])
def test_commit_log_syncs(sandbox, synchronous: str, syncs: str) -> None:
    """Each commit in WAL mode syncs the log once with FULL and never with less; the count shows it at once."""
    sandbox.arm("count", "sync", "store/*-wal", rule_id="syncs")
    out = sandbox.python(COMMITS, sandbox.store, synchronous, sandbox.control.path).stdout
    assert out.split() == [syncs] * 5


def test_failed_sync_is_not_counted(sandbox) -> None:
    """A sync that fails is no proof of durability."""
    code = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1] + "/main.db", isolation_level=None)
db.execute("PRAGMA journal_mode=WAL"); db.execute("PRAGMA synchronous=FULL")
try: db.execute("CREATE TABLE t (x)"); print("committed")
except sqlite3.OperationalError as error: print(error)
import os; os._exit(0)
"""
    sandbox.arm("count", "sync", "store/*-wal", rule_id="syncs")
    sandbox.arm("errno", "sync", "store/*-wal", error="EIO")
    assert sandbox.python(code, sandbox.store).stdout == "disk I/O error\n"
    assert sandbox.disarm("syncs")["calls_counted"] == 0
    assert sandbox.disarm()["calls_failed"] > 0


@pytest.mark.parametrize("action", ["kill", "kill_after"])
@pytest.mark.parametrize("nth", [1, 2, 3, 4])
def test_kill_at_the_commit_sync(sandbox, action: str, nth: int) -> None:
    """A process killed at the sync of its nth commit has acknowledged the ones before, and they are all there."""
    code = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1] + "/main.db", isolation_level=None)
db.execute("PRAGMA journal_mode=WAL"); db.execute("PRAGMA synchronous=FULL")
db.execute("CREATE TABLE IF NOT EXISTS t (x)")
for number in range(*map(int, sys.argv[2:])):
    db.execute("INSERT INTO t VALUES (?)", (number,)); print(number, flush=True)
print([row[0] for row in db.execute("SELECT x FROM t ORDER BY x")])
import os; os._exit(0)  # closing would checkpoint
"""
    assert sandbox.python(code, sandbox.store, 0, 0).stdout == "[]\n"
    # The first sync after opening heads the log that the last process left, and belongs to the first commit.
    sandbox.arm(action, "sync", "store/*-wal", nth=nth, count=1)
    done = sandbox.python(code, sandbox.store, 0, 10)
    assert done.returncode == -signal.SIGKILL
    assert sandbox.disarm()["processes_killed"] == 1
    acknowledged = [int(line) for line in done.stdout.splitlines()]
    assert acknowledged == list(range(nth - 1))
    kept = json.loads(sandbox.python(code, sandbox.store, 0, 0).stdout)
    assert kept in (acknowledged, [*acknowledged, nth - 1])
