"""How much of a host's kernel a workload reaches: in which of its functions the tasks were seen
that run a guest, or that are the workload.

By the kernel's own function tracer (Documentation/trace/ftrace.rst), in an instance of its own, so
that nobody else's tracing is touched. Work that the kernel leaves to threads of its own is in no
set, on neither side.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vbench.contract.guest import Guest
from vbench.contract.host import Host
from vbench.contract.undo import undone
from vbench.errors import HostError, Unsupported
from vbench.guest.native import Native
from vbench.guest.target import succeed

_TIMEOUT_S = 120.0
_TRACING = "/sys/kernel/tracing"
_HERE = f"{_TRACING}/instances/vbench"
_BUFFER_KIB = 32768
_READY = f"""
test -d {_TRACING}/instances || mount -t tracefs t {_TRACING} || exit
test -w {_TRACING}/instances && grep -qw function {_TRACING}/available_tracers
"""
# A line of the trace is a function's name then. Until it is told which tasks are meant, it is the
# one that ends here: of all tasks it would be without any.
_ON = f"""
set -e
mkdir {_HERE}
cd {_HERE}
echo 0 >tracing_on
echo {_BUFFER_KIB} >buffer_size_kb
for each in context-info print-parent; do echo 0 >options/$each; done
echo 1 >options/function-fork
echo $$ >set_ftrace_pid
echo function >current_tracer
"""
_OFF = f"echo nop >{_HERE}/current_tracer; rmdir {_HERE}"
# $1... tasks
_BEGIN = f"""
set -e
cd {_HERE}
echo >trace
[ "$#" = 0 ] || {{ for each in "$@"; do echo "$each"; done >set_ftrace_pid; echo 1 >tracing_on; }}
"""
# How many events were lost because the buffer was full, then the functions, one a line; a module's
# are followed by its name. A line that begins with CPU: says that events were lost.
_END = f"""
cd {_HERE} || exit
echo 0 >tracing_on
cat per_cpu/cpu*/stats | sed -n 's/^overrun: //p' | tr '\\n' ' '; echo
grep -v -e '^#' -e '^CPU:' trace | sort -u
"""
# Its number as the host knows it, also in a process namespace.
_SELF = f"""read -r task _ </proc/self/stat
echo $task >{_HERE}/set_ftrace_pid && echo 1 >{_HERE}/tracing_on"""
# $1 a process: its threads, and the kernel's that serve its network
_TASKS = """
cd /proc || exit
for each in "$1"/task/*; do echo "${each##*/}"; done
grep -lsx "vhost-$1" [0-9]*/comm | cut -d / -f 1
"""
# What programs do all day. What is nothing but a command is the control: over SSH to a guest.
WORK = {
    "nothing": "true",
    "computing": "vbench-probe spin 2000000",
    "memory": "vbench-probe pagefault 2000",
    "files": "mkdir {folder} && cd {folder} && echo a >a && cp a b && ln a c && mv b d && ls -l && "
    "cat a c d && rm -r {folder}",
    "processes": "ps && sh -c 'true | cat' && kill -0 $$",
    "sockets": "ping -c 2 127.0.0.1",
    "disk": "dd if={scratch} of=/dev/null bs=4k count=50 iflag=direct",
}


def work(target: Guest | Native) -> dict[str, str]:
    """Commands by name, as `target` is to run them. Without a disk of its own, none reads it."""
    folder = f"/tmp/{secrets.token_hex(8)}"  # noqa: S108 - nobody else's
    at = {"folder": folder, "scratch": target.endpoint.scratch}
    return {
        name: command.format(**at)
        for name, command in WORK.items()
        if at["scratch"] or name != "disk"
    }


@dataclass(frozen=True)
class Reached:
    """Names of functions; `lost` events of more were not recorded, for lack of room."""

    functions: frozenset[str]
    lost: int


@contextmanager
def traced(host: Host) -> Iterator[None]:
    """While the context lasts, `reached` can be asked. Raises Unsupported where this user may not
    trace functions, or the kernel cannot."""
    ready = host.run(["sh", "-c", _READY], timeout_s=_TIMEOUT_S)
    if ready.status != 0:
        raise _refused(host, ready.stderr)
    with undone(host, _OFF, timeout_s=_TIMEOUT_S):
        on = host.run(["sh", "-c", _ON], timeout_s=_TIMEOUT_S)
        if on.status != 0:
            raise _refused(host, on.stderr)
        yield


def _refused(host: Host, said: str) -> Unsupported:
    return Unsupported(
        f"functions of the kernel cannot be traced on {host.name}",
        evidence=said.strip(),
        remedy="run it as root, on a kernel with CONFIG_FUNCTION_TRACER",
    )


def of_guest(guest: Guest, command: str) -> Reached:
    """Of the host's kernel, while a guest runs a command. Raises as `succeed`, HostError, and
    Unsupported where no process of its host runs it."""
    pid = getattr(guest.machine, "pid", None)  # what drives it knows no such process else
    if pid is None:
        raise Unsupported("no process of the host runs its guests")
    tasks = _shell(guest.host, _TASKS, str(pid)).split()
    _shell(guest.host, _BEGIN, *tasks)
    succeed(guest, command, timeout_s=_TIMEOUT_S)
    return _seen(guest.host)


def of_native(native: Native, command: str) -> Reached:
    """The same, while a command runs natively. Guests of the host must stand still meanwhile: what
    the kernel does to leave a vCPU for the command (`kvm_sched_out`) is the command's for the
    tracer, which knows of the change already."""
    _shell(native.host, _BEGIN)
    succeed(native, f"{_SELF} && {command}", timeout_s=_TIMEOUT_S)
    return _seen(native.host)


def _seen(host: Host) -> Reached:
    lost, *functions = _shell(host, _END).splitlines()
    names = frozenset(line.split()[0] for line in functions if line.strip())
    return Reached(names, sum(map(int, lost.split())))


def _shell(host: Host, script: str, *arguments: str) -> str:
    done = host.run(["sh", "-c", script, "vbench-trace", *arguments], timeout_s=_TIMEOUT_S)
    if done.status != 0:
        raise HostError(f"the function tracer of {host.name} fails", evidence=done.stderr)
    return done.stdout
