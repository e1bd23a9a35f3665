"""Every exception of the package.

    ChaosError
    ├── PlanError               the user's plan is wrong; nothing was started
    ├── NothingSelected         no experiment matches what was asked for
    ├── EnvironmentUnavailable  something the run needs is not here; nothing was judged
    ├── HarnessError            the harness itself failed; says nothing about the stores
    │   └── HealFailed          an injected fault could not be taken back
    └── StoreError              a store did not do what it was asked to do
        ├── StoreUnavailable    the request certainly had no effect
        └── StoreInDoubt        the request may or may not have had its effect
    TransactionError
    ├── TransactionAborted      took effect in no store, and never will
    └── TransactionInDoubt      the outcome is not known yet; recovery resolves the token

The first three families never mix: a wrong plan, a failed harness and a store that broke a promise have
different exit codes (see `chaos.exit_codes`). Only the last one is a finding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class ChaosError(Exception):
    """Base of every exception that the harness raises on purpose."""


@dataclass(frozen=True, order=True)
class Problem:
    """One mistake in an experiment: where it is, what is wrong, the bound, the remedy and a slug.

    `line` is 1-based; 0 means that the file as a whole is meant. `text` names the value and its bound;
    `remedy` is an imperative clause; `slug` is explained in docs/reference/messages.md.
    """

    file: str
    line: int
    text: str
    remedy: str
    slug: str

    def __str__(self) -> str:
        """Format as `file:line: text; remedy [slug]`, the form that editors turn into a link."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.text}; {self.remedy} [{self.slug}]"


class PlanError(ChaosError):
    """The user's plan is wrong. Carries all problems found, sorted by place; never empty."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        """Keep `problems` in the order of file and line."""
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class NothingSelected(ChaosError):
    """The files named hold no experiment, or the filters removed every one."""


class EnvironmentUnavailable(ChaosError):
    """Something that a run needs is absent or broken; `remedy` says how to get it.

    `requirement` is the name under which CHAOS_REQUIRE can demand it ("docker", "kuzu" ...), where somebody knows it.
    """

    def __init__(self, what: str, remedy: str) -> None:
        """Say `what` is missing, with its name and value, and the `remedy` as an imperative clause."""
        self.what = what
        self.remedy = remedy
        self.requirement: str | None = None
        super().__init__(f"{what}; {remedy}")


class HarnessError(ChaosError):
    """The harness itself failed; the run says nothing about the stores."""


class HealFailed(HarnessError):
    """A fault that was injected could not be healed; the message names it and what to do by hand."""


class StoreError(ChaosError):
    """A store did not do what it was asked; `store` is its name in the experiment."""

    def __init__(self, store: str, text: str) -> None:
        """Prefix the message with the store's name."""
        self.store = store
        super().__init__(f"{store}: {text}")


class StoreUnavailable(StoreError):
    """The request certainly had no effect: it never reached the store, or the store refused it whole."""


class StoreInDoubt(StoreError):
    """The request may have had its effect: the reply was lost, late, or an error at the commit itself."""


class TransactionError(ChaosError):
    """A coordinated transaction did not end in an acknowledged commit; `token` names it."""

    def __init__(self, token: str, text: str) -> None:
        """Prefix the message with the token."""
        self.token = token
        super().__init__(f"transaction {token}: {text}")


class TransactionAborted(TransactionError):
    """The transaction took effect in no store and never will. `retryable`: tried anew it may well commit."""

    def __init__(self, token: str, text: str, *, retryable: bool = False) -> None:
        """Keep the mark beside the message."""
        self.retryable = retryable
        super().__init__(token, text)


class TransactionInDoubt(TransactionError):
    """The outcome is not known yet; look the token up after recovery, never retry blindly."""
