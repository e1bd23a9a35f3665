"""The connection is cut in the middle of a commit, byte by byte: through the request, and through its reply.

A server must not run half a command, and a client must not take half an answer for one. Each rule is armed while
the applier stands before a commit, and cuts exactly that frame behind byte k.
"""

from chaos import Experiment, faults, probes, stores, when, workload
from chaos.experiment.schedule import Rule

STORES = (stores.SQLite(), stores.Redis(), stores.Graph())
SPACING = 4
PATIENT = (probes.PingAll("10s"), probes.Commits(within="20s"))

# The request is `*7 $7 EVALSHA $40 <digest> $1 2 ...` of about 230 bytes: every byte up to the command's name,
# every seventeenth of the middle, and the last three.
REQUEST_BYTES = (*range(10), *range(15, 200, 17), -3, -2, -1)

# The reply is `$7 applied`, 13 bytes: all of them.
REPLY_BYTES = tuple(range(13))


def cut(number: int, at: str, byte: int, *, repeats: int) -> Rule:
    """Return the rule for one byte. `repeats`: 1 when the cut makes the applier begin the same commit once more."""
    begin = SPACING + SPACING * number
    fault = faults.OnCommand("redis", "EVALSHA", at=at, byte=byte, do=faults.Cut("rst" if number % 2 else "fin"))
    end = when.phase("acknowledged", nth=begin - repeats * number + 1)
    return when.phase("redis.applying", nth=begin).do(fault).heal(at=end)


EXPERIMENTS = (
    Experiment(
        id="mid-frame-cut-request",
        hypothesis="A commit whose request is cut anywhere is not half done, and is done once in the end.",
        tags=("network", "redis", "wire"),
        stores=STORES,
        steady_state=PATIENT,
        workload=workload.Transfers(accounts=16, clients=1, rate=100, seconds=6, deadline="2s", reads_redis=False),
        schedule=tuple(cut(number, "request_byte", byte, repeats=1) for number, byte in enumerate(REQUEST_BYTES)),
    ),
    Experiment(
        id="mid-frame-cut-reply",
        hypothesis="A commit whose reply is cut anywhere is neither forgotten nor repeated.",
        tags=("network", "redis", "wire"),
        stores=STORES,
        steady_state=PATIENT,
        workload=workload.Transfers(accounts=16, clients=1, rate=100, seconds=6, deadline="2s", reads_redis=False),
        schedule=tuple(cut(number, "reply_byte", byte, repeats=0) for number, byte in enumerate(REPLY_BYTES)),
    ),
)
