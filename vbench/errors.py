"""Every error vbench raises on purpose.

    VbenchError                     what happened, the evidence, the remedy
     ├── UsageError                 invalid command line or option         (exit 2)
     ├── UnavailableError           this host cannot do it                 (exit 3)
     ├── ImageError                 building, reading or placing the image (exit 1)
     ├── StoreError                 reading or writing results             (exit 1)
     │    └── UnreadableError       a result file is missing, foreign or damaged   (exit 5)
     ├── PluginError                a plugin is broken                     (exit 1)
     ├── HostError                  the host did not do what was asked     (exit 1)
     │    ├── HostTimeout           a command there ran past its deadline
     │    └── HostFlood             a command there wrote more than can be kept
     ├── ConnectionLost             the way to the host or guest is gone   (exit 1)
     │    └── Unreachable           a host did not let us in               (exit 3)
     ├── GuestError                 a guest                                (exit 1)
     │    ├── LaunchError           did not come up
     │    │    └── LaunchTimeout    was still at it when the time was up
     │    ├── GuestLost             died, or can no longer be reached
     │    │    └── GuestSilent      runs, but did not answer in time
     │    └── AttestationError      is not what its label says
     └── WorkloadError              a workload in a living guest           (exit 1)
          ├── WorkloadTimeout       ran past its deadline
          └── Unsupported           cannot be measured there: a result, not a fault

A lost guest is relaunched; a failed workload is recorded and the run goes on.
`Interrupted` is none of them: it is how Ctrl-C and signals end a command.
"""

from __future__ import annotations


class VbenchError(Exception):
    """What happened, with evidence and what to do.

    `what` is one sentence; `evidence` is raw material (argv, exit status, last
    console lines), possibly of many lines; `remedy` is what the user can do.
    """

    exit_status = 1

    def __init__(self, what: str, *, evidence: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.what = _visible(what)
        self.evidence = _visible(evidence.rstrip())
        self.remedy = remedy

    def __str__(self) -> str:
        parts = [self.what]
        if self.evidence:
            parts.append("\n".join("  | " + line for line in self.evidence.splitlines()))
        if self.remedy:
            parts.append(f"  -> {self.remedy}")
        return "\n".join(parts)


class UsageError(VbenchError):
    """The command line or an option is wrong."""

    exit_status = 2


class UnavailableError(VbenchError):
    """This host cannot do what was asked, for a stated reason."""

    exit_status = 3


class ImageError(VbenchError):
    """The image could not be built, read or placed on a host."""


class StoreError(VbenchError):
    """Results could not be read or written."""


class UnreadableError(StoreError):
    """A result file is missing, foreign, damaged or newer than this vbench."""

    exit_status = 5


class PluginError(VbenchError):
    """A plugin could not be loaded or breaks the contract."""


class HostError(VbenchError):
    """The host did not do what was asked of it."""


class HostTimeout(HostError):
    """A command on the host ran past its deadline and was ended."""


class HostFlood(HostError):
    """A command on the host wrote more than can be kept and was ended."""


class ConnectionLost(VbenchError):
    """The connection to a host or guest is gone, or was never made.

    No HostError: what a host does not have or do cannot be told from its silence.
    """


class Unreachable(ConnectionLost):
    """A host did not answer, or did not let us in."""

    exit_status = 3


class GuestError(VbenchError):
    """Something is wrong with a guest."""


class LaunchError(GuestError):
    """The guest did not come up."""


class LaunchTimeout(LaunchError):
    """It did not end, and did not answer in time. Another attempt may do."""


class GuestLost(GuestError):
    """The guest died or can no longer be reached; the workload is not to blame."""

    def __init__(self, what: str, *, evidence: str = "", remedy: str = "") -> None:
        again = "read the console's last lines; if it is lost again, try its command line by hand"
        super().__init__(what, evidence=evidence, remedy=remedy or again)


class GuestSilent(GuestLost):
    """The guest's machine runs, but the guest did not answer before the deadline."""


class AttestationError(GuestError):
    """The guest is not what its label says, so it is not measured."""


class WorkloadError(VbenchError):
    """The workload failed in a guest that is alive."""


class ClientRefused(WorkloadError):
    """The workload's server turned a client away; it may serve the next one."""


class WorkloadTimeout(WorkloadError):
    """The workload ran past its deadline and was ended."""


class Unsupported(WorkloadError):
    """The workload cannot be measured on this technique, for a stated reason."""


# A program's exit status that says the same: "skipped" to automake and Meson. vbench-probe ends
# with it where a machine has or allows no such thing as it was asked for.
UNSUPPORTED_STATUS = 77


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or a signal asked us to end. No workload or plugin raises it by itself."""


# Exit status of a fault of vbench itself, EX_SOFTWARE of BSD's sysexits.h. 1 would read as a
# regression where `vbench compare` is a gate.
INTERNAL_STATUS = 70
# Exit status of a command that a signal ended: 128 and the number of SIGINT, as shells have it.
INTERRUPTED_STATUS = 130


def named(error: BaseException) -> str:
    """The class of an error, and what it says if it says anything: "KeyError: 'x'"."""
    try:
        message = str(error)
    except Exception:  # a class of a workload's or plugin's own
        message = "what it says cannot be had"
    return ": ".join(filter(None, (type(error).__name__, message)))


def one_line(text: str) -> str:
    """All that is not printable as escapes, line ends too: what a machine says of itself goes into
    tables and terminals."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def _visible(text: str) -> str:
    """Control characters as escapes: a guest's firmware clears the screen of its console, which
    must not clear the user's."""
    text = text.replace("\r\n", "\n")
    return "".join(
        each if each.isprintable() or each in "\n\t" else ascii(each)[1:-1] for each in text
    )
