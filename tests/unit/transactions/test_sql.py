from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import pytest

from chaos.transactions.granules import point, row, table
from chaos.transactions.sql import NotAllowed, Plan, Statements, demand_reading, demand_writing

SCHEMA = """
CREATE TABLE accounts(id INTEGER PRIMARY KEY, balance INT);
CREATE TABLE things(a TEXT, b, c UNIQUE);
CREATE INDEX things_a ON things(a);
CREATE VIEW seen AS SELECT * FROM things;
CREATE TABLE logged(x);
CREATE TRIGGER after_log AFTER INSERT ON logged BEGIN UPDATE accounts SET balance = balance + 1; END;
CREATE TABLE parents(id INTEGER PRIMARY KEY);
CREATE TABLE children(id INTEGER PRIMARY KEY, parent REFERENCES parents ON DELETE CASCADE);
"""


async def plan(sql: str, parameters: Sequence[Any]) -> Plan:
    """Ask a real SQLite."""
    connection = sqlite3.connect(":memory:")
    connection.executescript(SCHEMA)
    connection.execute("PRAGMA foreign_keys = ON")

    async def fetch(text: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        return connection.execute(text, values).fetchall()

    return await Statements().plan(sql, parameters, fetch)


@pytest.mark.parametrize(
    ("sql", "parameters", "expected"),
    [
        ("SELECT balance FROM accounts WHERE id = ?", [3], [point("accounts", "id", 3)]),
        ("select * from things where A=? and b > 3 order by c limit 2", ["x"], [point("things", "a", "x")]),
        ("SELECT ?, b FROM things WHERE a = ?", [1, "x"], [point("things", "a", "x")]),
        ("SELECT * FROM things WHERE a = ? OR b = 2", ["x"], [table("things")]),
        ("SELECT * FROM things WHERE a = ? AND (b = 2 OR 1)", ["x"], [table("things")]),
        ("SELECT (SELECT max(b) FROM things) FROM things WHERE a = ?", ["x"], [table("things")]),
        ("SELECT * FROM things WHERE a = ? UNION SELECT * FROM things", ["x"], [table("things")]),
        ("SELECT * FROM seen", [], [table("things")]),
        ("SELECT count(*) FROM things, accounts", [], [table("accounts"), table("things")]),
        ("WITH x AS (SELECT * FROM accounts) SELECT * FROM x", [], [table("accounts")]),
        ("SELECT 1", [], []),
    ],
)
async def test_what_is_read(sql: str, parameters: list[Any], expected: list[Any]) -> None:
    """A plain condition on one column is a point; everything else is the tables that SQLite opens."""
    assert list((await plan(sql, parameters)).read_granules(parameters)) == expected


@pytest.mark.parametrize(
    ("sql", "parameters", "expected"),
    [
        ("UPDATE accounts SET balance = balance - ? WHERE id = ?", [1, 2], [row("accounts", {"id": 2})]),
        ("UPDATE accounts SET id = ? WHERE id = ?", [1, 2], [table("accounts")]),
        ("UPDATE accounts SET balance = 0", [], [table("accounts")]),
        ("DELETE FROM accounts WHERE id = ?", [1], [row("accounts", {"id": 1})]),
        ("DELETE FROM accounts", [], [table("accounts")]),
        ("INSERT INTO things VALUES (?, ?, ?)", ["p", 2, None], [row("things", {"a": "p", "b": 2})]),
        ("INSERT INTO things(b, a) VALUES (5, ?)", ["q"], [row("things", {"a": "q"})]),
        ("INSERT OR REPLACE INTO things VALUES (?, ?, ?)", [1, 2, 3], [table("things")]),
        ("INSERT INTO things VALUES (?, 1, 1) ON CONFLICT DO UPDATE SET b = 2", [1], [table("things")]),
        ("INSERT INTO things SELECT id, 1, 2 FROM accounts", [], [table("things")]),
        ("INSERT INTO logged VALUES (?)", [1], [table("accounts"), table("logged")]),
        ("DELETE FROM parents WHERE id = ?", [1], [table("children"), table("parents")]),
    ],
)
async def test_what_is_written(sql: str, parameters: list[Any], expected: list[Any]) -> None:
    """A row is told only where nothing else can change: triggers, cascades and upserts mean whole tables."""
    assert list((await plan(sql, parameters)).write_granules(parameters)) == expected


@pytest.mark.parametrize("sql", ["COMMIT", "PRAGMA synchronous=OFF", "SAVEPOINT x", "ATTACH 'x' AS y", "SELECT 1"])
def test_a_body_may_only_write_rows(sql: str) -> None:
    """What would end the batch's transaction, or change the database's settings, is refused."""
    with pytest.raises(NotAllowed):
        demand_writing(sql)


@pytest.mark.parametrize("sql", ["DELETE FROM t", "BEGIN", "PRAGMA x"])
def test_fetch_only_reads(sql: str) -> None:
    """A write is not hidden in a reading."""
    with pytest.raises(NotAllowed):
        demand_reading(sql)
