"""`chaos explore`: every state of the disk that a crash may leave, reopened and judged."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from chaos.cli.options import AS_JSON, SEED
from chaos.cli.outcome import answering, echo_json
from chaos.cli.speech import say
from chaos.exit_codes import ExitCode
from chaos.experiment.seeds import draw_seed

if TYPE_CHECKING:
    from chaos.crashpoints.explorer import Budget
    from chaos.crashpoints.session import Options, Summary

_BUDGET = re.compile(r"^(\d+(?:\.\d+)?)(s|m|h)?$")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_SHOWN = 20


class BudgetType(click.ParamType["Budget"]):
    """A number of states, or a time such as 90s, 5m or 1h."""

    name = "budget"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Budget:
        """Read the text; a usage error says the accepted forms."""
        from chaos.crashpoints.explorer import Budget

        if isinstance(value, Budget):
            return value
        match = _BUDGET.match(value)
        if match is None or (match[2] is None and "." in match[1]):
            self.fail(f"{value!r} must be a number of states, or a time such as 90s, 5m, 1h", param, ctx)
        if match[2] is None:
            return Budget(states=int(match[1]))
        return Budget(seconds=float(match[1]) * _UNITS[match[2]])


@click.command()
@click.argument("words", metavar="TARGET | -- COMMAND...", nargs=-1)
@SEED
@click.option("--jobs", type=click.IntRange(1, 256), help="Processes that look at states; as many as cores by default.")
@click.option("--budget", type=BudgetType(), default="2000", show_default=True, help="States to look at, or a time.")
@click.option("--draws", type=click.IntRange(0, 1000), default=6, show_default=True, help="Random states per boundary.")
@click.option("--again", type=click.IntRange(0), default=4, show_default=True, help="Recoveries that crash again.")
@click.option("--limit", "limit_s", type=click.FloatRange(0.1), help="Seconds for one state, in place of the target's.")
@click.option("--ignore-syncs", is_flag=True, help="Take every sync for a lie: a control that must find something.")
@click.option("--sweep", is_flag=True, help="Let each file call fail in its turn, instead of crashing.")
@click.option("--check", metavar="COMMAND", help="Check of your own program; COMMAND then follows after --.")
@click.option("--data", type=click.Path(path_type=Path), help="Folder whose content your program begins with.")
@click.option("--resume", type=click.Path(path_type=Path), help="Go on with the exploration in this folder.")
@click.option("--state", metavar="STATE", help="Look at one state again, with --resume; with --sweep, one call.")
@AS_JSON
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Folder of run folders."
)
@answering
def explore(words: tuple[str, ...], as_json: bool, **given: Any) -> int:
    """Record a workload's file operations, and reopen every state of the disk that a crash may leave.

    TARGET is sqlite, kuzu, ladybug, redis or system, with options as in sqlite:journal=wal,synchronous=full. A program
    of your own is explored with --check COMMAND -- PROGRAM ARGUMENT...
    """
    from chaos.crashpoints import session

    if given["sweep"]:
        return _sweep(words, given, as_json=as_json)
    if given["state"] is not None:
        if given["resume"] is None or words:
            raise click.UsageError("--state belongs to --resume FOLDER, without a target")
        code, lines = session.look_again(given["resume"], given["state"], given["limit_s"])
        if as_json:
            echo_json({"exit_code": code, "lines": lines})
        else:
            say("\n".join(lines))
        return code
    options = _options(words, given)
    tell = _quiet if as_json else say
    if given["resume"] is None:
        tell(_seed_line(options))
        summary = session.run(options, tell)
    else:
        summary = session.resume(given["resume"], options, tell)
    if as_json:
        import msgspec

        echo_json(msgspec.to_builtins(summary))
    else:
        say(_text(summary))
    if given["resume"] is None:
        tell(_seed_line(options))
    return summary.exit_code


def _sweep(words: tuple[str, ...], given: dict[str, Any], *, as_json: bool) -> int:
    """Do the error sweep, or one call of it again."""
    import msgspec

    from chaos.crashpoints import sweeping

    if given["resume"] is not None or given["ignore_syncs"]:
        raise click.UsageError("--sweep runs the workload anew; leave --resume and --ignore-syncs out")
    options = _options(words, given)
    if given["state"] is not None:
        code, lines = sweeping.run_again(options, given["state"])
        if as_json:
            echo_json({"exit_code": code, "lines": lines})
        else:
            say("\n".join(lines))
        return code
    swept = sweeping.run(options, _quiet if as_json else say)
    if as_json:
        echo_json(msgspec.to_builtins(swept))
        return swept.exit_code
    lines = [f"{swept.target}: {swept.verdict.upper()}", *([f"  {swept.note}"] if swept.note else [])]
    lines.append(
        f"  {swept.runs} runs, {swept.hit} hit, {swept.noticed} noticed by the workload, {swept.absorbed} absorbed"
    )
    for number, one in enumerate(swept.findings, 1):
        lines.append(f"  {number:>2}  {one.outcome} ({one.calls} calls): {one.detail[:160]}")
        lines.append(f"      {one.repeat}")
    say("\n".join([*lines, f"  folder: {swept.folder}"]))
    return swept.exit_code


def _options(words: tuple[str, ...], given: dict[str, Any]) -> Options:
    """Make sense of what was given together."""
    from chaos.crashpoints import session

    own = given["check"] is not None
    if given["resume"] is not None and (words or own):
        raise click.UsageError("--resume FOLDER knows its target; leave everything else out")
    if given["resume"] is None and not words:
        raise click.UsageError("name a TARGET, or a command with --check COMMAND -- PROGRAM")
    if not own and len(words) > 1:
        raise click.UsageError("a command of your own needs --check COMMAND; else give one TARGET")
    seed = given["seed"]
    return session.Options(
        target="command" if own else "".join(words),
        seed=draw_seed() if seed is None else seed,
        jobs=given["jobs"] or session.default_jobs(),
        out=given["out"],
        budget=given["budget"],
        draws=given["draws"],
        again=(given["again"], session.AGAIN_STATES),
        limit_s=given["limit_s"],
        ignore_syncs=given["ignore_syncs"],
        command=words if own else (),
        check=given["check"],
        data=given["data"],
    )


def _quiet(_: str) -> None:
    """Leave stdout to the JSON document."""


def _seed_line(options: Options) -> str:
    words = [word for word in sys.argv[1:] if word != "--json"]
    if "--seed" not in words and not any(word.startswith("--seed=") for word in words):
        at = words.index("--") if "--" in words else len(words)
        words[at:at] = ["--seed", str(options.seed)]
    return f"seed {options.seed}  repeat: {shlex.join(['chaos', *words])}"


def _text(summary: Summary) -> str:
    """Return what a person reads."""
    if summary.exit_code == ExitCode.INCONCLUSIVE:
        return f"{summary.target}: NO VERDICT\n  {summary.note or 'nothing was looked at'}\n  folder: {summary.folder}"
    lines = [f"{summary.target}", "", "  kind    made  different  looked at"]
    for kind, made in summary.made.items():
        if made:
            unique, looked = summary.unique[kind], summary.looked_at[kind]
            share = f"{100 * looked // unique} %" if unique else ""
            lines.append(f"  {kind:<4} {made:>7}  {unique:>9}  {looked:>9}  {share}".rstrip())
    looked_at = sum(summary.looked_at.values())
    rate = f", {summary.states_per_second:.0f} a second" if summary.states_per_second else ""
    lines.append(f"  {looked_at} of {sum(summary.unique.values())} different states{rate}")
    if summary.recoveries:
        of = f"{summary.recovery_states_looked_at} of {summary.recovery_states}"
        lines.append(f"  and {of} states that a crash during {summary.recoveries} recoveries leaves")
    lines += [f"  in {count} of them: {text}" for text, count in summary.told.items()]
    if summary.recovered_s_max:
        lines.append(f"  the longest recovery took {summary.recovered_s_max:.3f} s")
    lines += ["", *_findings(summary)]
    lines.append(f"  folder: {summary.folder}")
    return "\n".join(lines)


def _findings(summary: Summary) -> list[str]:
    if not summary.findings:
        return ["VERDICT", "  nothing found: every state looked at kept what was promised"]
    lines = [f"FOUND {len(summary.findings)}"]
    for number, one in enumerate(summary.findings[:_SHOWN], 1):
        lines.append(f"  {number:>2}  {one.outcome} after {one.crash} ({one.states} states): {one.detail[:160]}")
        lines.append(f"      {one.minimal or one.state}  {one.folder}")
        lines += [f"      lacks {line}" for line in one.missing[:3]]
    if len(summary.findings) > _SHOWN:
        lines.append(f"  and {len(summary.findings) - _SHOWN} more, in explore.json")
    return lines
