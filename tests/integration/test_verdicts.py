"""Runs whose verdict must not be a pass, or must be a finding: what nobody tested, and what never came right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.requires("redis", "kuzu"), pytest.mark.slow]


def with_system(text: str, name: str, source: str, budget: str = "1s") -> str:
    """Return the experiment `text` on the class `name` of `source`, with a budget for its recovery."""
    text = text.replace('id="trivial",', f'id="trivial", system=systems.Own("{name}"),')
    text = text.replace("import Experiment, Recovery", "import systems, Experiment, Recovery")
    return text.replace('budget="10s"', f'budget="{budget}"') + source


def validity(done: Any, check: str) -> tuple[str, str]:
    """Return the verdict of one check of a run, and its summary."""
    verdict = done.json(f"checks/{check}.json")
    return verdict["valid"], verdict["summary"]


def test_a_fault_that_never_landed_is_never_a_pass(chaos_command, trivial: Callable[..., str]) -> None:
    """An experiment that does not ask for `landed` is judged by it all the same, now and when it is judged again."""
    rule = 'when.phase("sqlite.committed", nth=100000).do(faults.Disconnect("redis")),'
    text = trivial(rule).replace("schedule=", "checks=(checks.Atomic(), checks.Durable()), schedule=")
    text = text.replace("import Experiment", "import checks, Experiment")
    done = chaos_command("run", chaos_command.write(text), "--seed", "1")
    assert done.code == 3, done.out + done.err
    assert done.json("plan.json")["checks"] == ["atomic", "durable"]
    assert validity(done, "landed") == (
        "unknown",
        "f0 (network.disconnect) was never injected: its moment did not come",
    )
    assert chaos_command("check", done.folder).code == 3


APART = """
    import msgspec

    from chaos.transactions.redo import RedoSystem


    class Apart(RedoSystem):
        async def read_back(self):
            images = dict(await super().read_back())
            images["redis"] = msgspec.structs.replace(images["redis"], marks={})
            return images
"""


def test_stores_that_never_agree_have_not_converged(chaos_command, trivial: Callable[..., str]) -> None:
    """The last look lies beyond the budget, so the difference is a finding and not a watch that was cut short."""
    text = with_system(trivial(), "Apart", APART)
    done = chaos_command("run", chaos_command.write(text), "--seed", "1")
    assert done.code == 1, done.out + done.err
    valid, summary = validity(done, "converged")
    assert valid == "invalid", summary
    assert "the stores still differ 1." in summary


ONCE = """
    from pathlib import Path

    from chaos.transactions.redo import RedoSystem


    class Once(RedoSystem):
        async def open(self, site):
            flag = Path(site.config.data_folder) / "opened"
            if flag.exists():
                raise ValueError("no way back in")
            flag.write_text("")
            await super().open(site)
"""


def test_a_system_that_cannot_be_opened_again_is_a_finding(chaos_command, trivial: Callable[..., str]) -> None:
    """What it acknowledged cannot be got at any more: exit 1, with the error of the attempt as witness."""
    done = chaos_command("run", chaos_command.write(with_system(trivial(), "Once", ONCE)), "--seed", "1")
    assert done.code == 1, done.out + done.err
    assert [validity(done, check)[0] for check in ("durable", "recovered", "atomic")] == [
        "invalid",
        "invalid",
        "unknown",
    ]
    assert "no way back in" in done.json("checks/durable.json")["witnesses"][0]["text"]


def test_a_harness_that_cannot_open_the_system_is_no_finding(chaos_command, trivial: Callable[..., str]) -> None:
    """When the proxy is gone the system cannot open either: that is exit 70, and nothing is said of the system."""
    source = ONCE.replace('raise ValueError("no way back in")', "end_the_proxy(site)")
    source += """

    def end_the_proxy(site):
        import os
        import signal

        for folder in Path("/proc").glob("[0-9]*"):
            try:
                command = (folder / "cmdline").read_bytes()
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == os.getppid() and b"chaos.faults.network.server" in command:
                os.kill(int(folder.name), signal.SIGKILL)
        raise ValueError("no way back in")
    """
    done = chaos_command("run", chaos_command.write(with_system(trivial(), "Once", source)), "--seed", "1")
    assert done.code == 70, done.out + done.err
    assert done.json("run.json")["verdict"] == "harness_failed"


SLOW = """
    import asyncio
    from pathlib import Path

    from chaos.transactions.redo import RedoSystem


    class Slow(RedoSystem):
        async def open(self, site):
            flag = Path(site.config.data_folder) / "opened"
            if flag.exists():
                await asyncio.sleep(3)
            flag.write_text("")
            await super().open(site)
"""


@pytest.mark.requires("shim")
def test_a_slow_recovery_from_a_rule_that_stays_armed_is_late(chaos_command, trivial: Callable[..., str]) -> None:
    """KillAtCall strikes once and is held to the load's end; the budget counts from the blow that the shim recorded."""
    rule = 'when.at("100ms").do(faults.KillAtCall("sqlite", call="sync", path="*-wal", nth=4)),'
    text = with_system(trivial(rule).replace("seconds=1", "seconds=6"), "Slow", SLOW)
    done = chaos_command("run", chaos_command.write(text), "--seed", "1")
    assert done.code == 1, done.out + done.err
    assert validity(done, "recovered") == ("invalid", "no good transaction within 1 s of 1 of 1 fault")
    (end,) = [entry for entry in done.history() if entry["kind"] == "fault_end"]
    (exited,) = [entry for entry in done.history() if entry["f"] == "worker_exited" and entry["index"] < end["index"]]
    struck_s = end["value"]["evidence"]["struck_at_s"]
    assert 0 <= exited["time_ns"] / 1e9 - struck_s < 2, "the blow is on the history's clock, just before the exit"
