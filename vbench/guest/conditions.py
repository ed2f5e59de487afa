"""What decides the cost of a program besides its own code: is it alike in a guest and natively?"""

from __future__ import annotations

import weakref
from collections.abc import Mapping

from vbench.contract.guest import Target
from vbench.guest.target import parse_facts, succeed

# name=value lines. A process inherits all of these, huge pages aside, from whoever started it.
_ASK = r"""
status() { sed -n "s/^$1:[[:space:]]*//p" /proc/self/status; }
echo "umask=$(umask)"
for limit in c d f l n s t v; do echo "ulimit_$limit=$(ulimit -S -$limit)"; done
echo "timer_slack_ns=$(cat /proc/self/timerslack_ns)"
echo "personality=$(cat /proc/self/personality)"
echo "huge_pages_allowed=$(status THP_enabled)"
echo "seccomp=$(status Seccomp)"
echo "huge_pages=$(sed 's/.*\[\(.*\)\].*/\1/' /sys/kernel/mm/transparent_hugepage/enabled)"
"""
# name -> flag; the others have the flag "limits_differ"
_FLAGS = {
    "seccomp": "seccomp",
    "huge_pages": "huge_pages_differ",
    "huge_pages_allowed": "huge_pages_differ",
}
# Where huge pages decide: what a page fault or a walk of the page tables costs.
_HUGE_PAGES_MATTER = ("memory",)

_known: weakref.WeakKeyDictionary[Target, Mapping[str, str]] = weakref.WeakKeyDictionary()


def differences(native: Target, guest: Target, category: str) -> dict[str, str]:
    """Flags for a workload of `category`, each with a sentence; empty where all is alike.

    What one side does not tell is not compared. Raises WorkloadError, GuestLost.
    """
    own, other = _conditions(native), _conditions(guest)
    found: dict[str, list[str]] = {}
    for name, value in own.items():
        flag = _FLAGS.get(name, "limits_differ")
        if flag == "huge_pages_differ" and category not in _HUGE_PAGES_MATTER:
            continue
        if value and other.get(name) and other[name] != value:
            found.setdefault(flag, []).append(f"{name} is {value} natively, {other[name]} there")
    return {flag: "; ".join(sentences) for flag, sentences in found.items()}


def _conditions(target: Target) -> Mapping[str, str]:
    if target not in _known:
        _known[target] = parse_facts(succeed(target, _ASK, timeout_s=30))
    return _known[target]
