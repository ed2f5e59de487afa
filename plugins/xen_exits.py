"""How often a Xen domain left for Xen: hypercalls, traps and what else xentrace(8) tells."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping

from vbench.contract.guest import Guest
from vbench.contract.hookspecs import hookimpl
from vbench.contract.host import HostProcess
from vbench.errors import ConnectionLost, HostError
from vbench.hypervisors.xen.machine import XlMachine
from vbench.results import exit_reasons

# What is traced, by what the guest says it is: the classes "scheduler" (which domain runs) with
# "PV", or with "HVM", of which only entries and exits. xen/include/public/trace.h
_EVENTS = {"xen PV": "0x0022f000", "xen PVH": "0x000a9000"}
_BUFFER_PAGES = 2048  # a CPU's; read every 20 ms, so it would take 400 MB/s to lose a record
_TIMEOUT_S = 30.0

# $1 folder, $2 domain, $3 probe, $4 events. A line on standard input asks for the counts since
# the last.
_LOOP = f"""
PATH=$PATH:/usr/sbin:/sbin:/usr/lib/xen-4.17/bin
while :; do
  rm -f "$1/trace"  # there once more is what says that tracing is on
  xentrace -D -e "$4" -S {_BUFFER_PAGES} -s 20 "$1/trace" >&2 & t=$!
  until [ -s "$1/trace" ] || ! kill -0 $t; do sleep 0.02; done
  echo counting
  read -r _; asked=$?
  kill -TERM $t; wait $t
  [ $asked = 0 ] && "$3" xen-trace "$1/trace" "$2" || exit
done
"""


@hookimpl
def vbench_exit_histogram(
    guest: Guest,
) -> contextlib.AbstractContextManager[Callable[[], Mapping[str, int]]] | None:
    """Entries into Xen by reason; None if it is no domain of ours, or dom0 has no xentrace."""
    machine = guest.machine
    events = _EVENTS.get(guest.observed.sys_hypervisor)
    if not isinstance(machine, XlMachine) or events is None:
        return None
    try:
        there = guest.host.run(
            ["sh", "-c", "PATH=$PATH:/usr/sbin:/usr/lib/xen-4.17/bin; command -v xentrace"],
            timeout_s=_TIMEOUT_S,
        )
    except (HostError, ConnectionLost):
        return None
    return _counting(guest, machine.domid, events) if there.status == 0 else None


@contextlib.contextmanager
def _counting(guest: Guest, domain: int, events: str) -> Iterator[Callable[[], Mapping[str, int]]]:
    totals: dict[str, int] = {}
    with guest.host.workdir() as folder:
        probe = f"{guest.image.root}/usr/bin/vbench-probe"
        amd = "AuthenticAMD" in guest.host.read("/proc/cpuinfo")
        arguments = (folder, str(domain), probe, events)
        process = guest.host.start(["sh", "-c", _LOOP, "vbench", *arguments])
        try:
            lines = _lines(process, _TIMEOUT_S * guest.host.timeout_scale)
            _expect(process, lines, "counting")

            def look() -> Mapping[str, int]:
                process.stream.sendall(b"\n")
                found = json.loads(_expect(process, lines, "{"))
                _expect(process, lines, "counting")
                if found.pop("lost"):
                    raise HostError("xentrace lost records", evidence=process.log())
                for name, count in found.items():
                    named = exit_reasons.entry(name, exit_reasons.SVM if amd else exit_reasons.VMX)
                    totals[named] = totals.get(named, 0) + int(count)
                return {**totals, "events received": _received(guest)}

            yield look
        finally:
            with contextlib.suppress(OSError):
                process.stream.shutdown(1)  # its end of input: xentrace ends, and with it tracing
            process.wait(_TIMEOUT_S)
            process.kill()


def _lines(process: HostProcess, timeout_s: float) -> Iterator[str]:
    process.stream.settimeout(timeout_s)
    buffer = b""
    while piece := process.stream.recv(65536):
        buffer += piece
        *whole, buffer = buffer.split(b"\n")
        yield from (line.decode() for line in whole)


def _expect(process: HostProcess, lines: Iterator[str], start: str) -> str:
    try:
        line = next(lines, "")
    except OSError as error:
        line = str(error)
    if not line.startswith(start):
        raise HostError(f"xentrace does not count: {line}", evidence=process.log())
    return line


def _received(guest: Guest) -> int:
    """Interrupts that came to the guest over event channels."""
    interrupts = guest.run("cat /proc/interrupts", timeout_s=_TIMEOUT_S).stdout
    return sum(
        int(word)
        for line in interrupts.splitlines()
        if "xen-" in line
        for word in line.partition(":")[2].split()
        if word.isdecimal()
    )
