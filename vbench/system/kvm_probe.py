"""Whether KVM really runs code: existence of /dev/kvm proves nothing.

`python3 kvmcheck.py` makes a virtual machine with one vCPU in 64-bit long mode, lets it count,
and prints a verdict as JSON. The file stands alone (standard library, no import of vbench when
run), so `verdict(host)` can send its source to `python3 -` on any host.

The guest's program is `dec rcx; jnz` until zero, then `hlt`. The smallest real hardware runs
that at 1-2 G instructions/s, QEMU's TCG (KVM inside an emulated machine) at 100 to several hundred
M, a KVM without hardware behind it, which interprets each instruction, at 1-2 M: with those, Linux
never reaches its first line. The threshold lies between, some twenty times away from an
interpreter, and as far from hardware.

ioctl numbers and structures: <linux/kvm.h> and <asm/kvm.h>, x86-64, and the kernel's
Documentation/virt/kvm/api.rst.
"""

from __future__ import annotations

import json
import os
import platform
import select
import signal
import struct
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

TYPE_CHECKING = False  # a constant that type checkers read as True; spares `import typing`
if TYPE_CHECKING:
    from collections.abc import Iterable

    from vbench.system.facts import Reader

DEVICE = "/dev/kvm"
# Modules with a processor's virtualization behind them. Others exist (kvm_pvm), which interpret or
# translate what they are given.
HARDWARE = ("kvm_amd", "kvm_intel")
THRESHOLD_PER_S = 30e6
DEADLINE_S = 3.0
ENOUGH_S = 0.05  # a round this long is timed to better than a per cent
FIRST_ITERATIONS = 100_000  # 0.14 s on an interpreter, 0.1 ms on hardware
MOST_ITERATIONS = 100_000_000  # 0.05-0.2 s on hardware
SLOW_ROUNDS = 5  # so many tell an interpreter from a busy machine
INSTRUCTIONS_PER_ITERATION = 2

# _IO(0xAE, nr), _IOR and _IOW with the size of the structure, as <linux/kvm.h> defines them.
KVM_GET_API_VERSION = 0xAE00
KVM_CREATE_VM = 0xAE01
KVM_GET_VCPU_MMAP_SIZE = 0xAE04
KVM_CREATE_VCPU = 0xAE41
KVM_SET_TSS_ADDR = 0xAE47
KVM_SET_USER_MEMORY_REGION = 0x4020AE46
KVM_RUN = 0xAE80
KVM_SET_REGS = 0x4090AE82
KVM_GET_SREGS = 0x8138AE83
KVM_SET_SREGS = 0x4138AE84
API_VERSION = 12  # the only one since Linux 2.6.22
KVM_EXIT_HLT = 5

# Where things lie in the guest's 32 KiB of memory.
PML4, PDPT, PD, CODE, MEMORY_BYTES = 0x1000, 0x2000, 0x3000, 0x4000, 0x8000
PROGRAM = bytes.fromhex("48ffc9 75fb f4")  # dec rcx; jnz -5; hlt
TSS_ADDRESS = 0x7FFBD000  # Intel wants three pages below 4 GiB that the guest does not use


@dataclass(frozen=True)
class KvmVerdict:
    """What KVM is worth on a host.

    `state`: "usable", "interprets" (runs, too slowly to boot anything), "absent",
    "no-permission", "error", or "unknown" (the host could not be asked). `rate_per_s` is in
    guest instructions per second, None if nothing ran.
    """

    usable: bool
    state: str
    rate_per_s: float | None
    provider: str  # the module behind /dev/kvm: "kvm_intel", "kvm_amd", "kvm_pvm"; "" if none
    reason: str
    remedy: str = ""


def verdict(host: Reader) -> KvmVerdict:
    """Probe KVM on `host`, in 3 s at most. What cannot be asked is "unknown".

    Raises ConnectionLost.
    """
    from vbench.errors import HostError  # noqa: PLC0415  (absent where this file runs alone)

    source = Path(__file__).read_bytes()
    try:
        out = host.run(["python3", "-"], timeout_s=DEADLINE_S + 30, stdin=source)
        return KvmVerdict(**json.loads(out.stdout))
    except HostError as exc:
        found = exc.what
    except (ValueError, TypeError):
        found = (out.stderr.strip() or out.stdout.strip() or "no output").splitlines()[-1]
    return KvmVerdict(False, "unknown", None, "", f"could not be probed: {found}", NO_PYTHON)


NO_PYTHON = "install python3 on that host, then ask again"
NO_MODULE = (
    "modprobe kvm_intel or kvm_amd; if that fails, enable VT-x / AMD-V in the firmware, or, in "
    "a virtual machine, nested virtualization on its host"
)
NO_ACCESS = (
    "sudo usermod -aG kvm $USER and log in again; if the group of /dev/kvm is not kvm: "
    """echo 'KERNEL=="kvm", GROUP="kvm", MODE="0660"' | """
    "sudo tee /etc/udev/rules.d/65-kvm.rules && sudo udevadm control --reload && "
    "sudo udevadm trigger --name-match=kvm"
)
SEE_LOG = "see the kernel's log (dmesg) for what kvm says; another hypervisor may hold the CPU"
NO_HARDWARE = "use a machine whose CPU flags show vmx or svm, or --host testbed"


def probe() -> KvmVerdict:
    """The verdict on this machine."""
    who = provider()
    if platform.machine() != "x86_64":
        return KvmVerdict(False, "error", None, who, "error: the probe knows x86-64 only")
    if not os.path.exists(DEVICE):
        return KvmVerdict(False, "absent", None, who, f"absent: no {DEVICE}", NO_MODULE)
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        remedy = NO_ACCESS if who in HARDWARE else NO_HARDWARE
        return KvmVerdict(False, "no-permission", None, who, f"no permission: {DEVICE}", remedy)
    rounds, error = _in_child(DEADLINE_S)
    return judge(rounds, error, who)


def provider() -> str:
    """The module behind /dev/kvm on this machine, as `provider_among`."""
    try:
        return provider_among(os.listdir("/sys/module"))
    except OSError:
        return ""


def provider_among(modules: Iterable[str]) -> str:
    """Which of the loaded `modules` provides KVM: one with hardware first; "" if there is none."""
    found = sorted(name for name in modules if name.startswith("kvm_"))
    return next((name for name in found if name in HARDWARE), ", ".join(found))


def judge(rounds: list[tuple[int, float]], error: str, who: str) -> KvmVerdict:
    """A verdict from `rounds` of (iterations, seconds): the best, as nothing makes one faster."""
    by = f"provider {who}" if who else "provider unknown"
    if error:
        return KvmVerdict(False, "error", None, who, f"error: {error} ({by})", SEE_LOG)
    if not rounds:
        reason = f"present, but finished nothing in {DEADLINE_S:.0f} s ({by}): not usable"
        return KvmVerdict(False, "interprets", 0.0, who, reason, NO_HARDWARE)
    rate = max(INSTRUCTIONS_PER_ITERATION * iterations / seconds for iterations, seconds in rounds)
    if rate >= THRESHOLD_PER_S:
        return KvmVerdict(True, "usable", rate, who, f"runs {per_s(rate)} ({by})")
    reason = f"present, but emulates each instruction, far too slowly ({per_s(rate)}, {by})"
    return KvmVerdict(False, "interprets", rate, who, reason, NO_HARDWARE)


def per_s(rate: float) -> str:
    """1.3e6 -> "1.3 M instructions/s"."""
    return f"{rate / 1e6:.{0 if rate >= 1e8 else 1}f} M instructions/s"


def _in_child(deadline_s: float) -> tuple[list[tuple[int, float]], str]:
    """Run `_count` in a child that is killed at the deadline; its rounds, and its error.

    A child, as a KVM_RUN that interprets may be deaf to softer means. Only ever called from a
    process of its own with one thread, so fork is safe.
    """
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _count(write_end)
        except BaseException as exc:
            os.write(write_end, f"! {exc}\n".encode())
        finally:
            os._exit(0)
    os.close(write_end)
    text = b""
    end = time.monotonic() + deadline_s
    while (left := end - time.monotonic()) > 0 and select.select([read_end], [], [], left)[0]:
        piece = os.read(read_end, 4096)
        if not piece:
            break
        text += piece
    os.close(read_end)
    os.kill(child, signal.SIGKILL)  # not reaped yet, so the pid is still the child's
    os.waitpid(child, 0)
    lines = text.decode().splitlines()
    error = next((line[2:] for line in lines if line.startswith("! ")), "")
    rounds = [line.split() for line in lines if not line.startswith("! ")]
    return [(int(n), float(s)) for n, s in rounds], error


def _count(report: int) -> None:
    """Count in a guest, ever longer until a round takes ENOUGH_S; a line to `report` for each.

    A slow round is repeated: on a busy machine the vCPU may have had no CPU for a while."""
    import ctypes  # noqa: PLC0415  (these three only where a guest is really made)
    import fcntl  # noqa: PLC0415
    import mmap  # noqa: PLC0415

    kvm = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    version = fcntl.ioctl(kvm, KVM_GET_API_VERSION)
    if version != API_VERSION:
        raise OSError(f"KVM API version {version}, wanted {API_VERSION}")
    vm = fcntl.ioctl(kvm, KVM_CREATE_VM, 0)
    fcntl.ioctl(vm, KVM_SET_TSS_ADDR, TSS_ADDRESS)

    memory = mmap.mmap(-1, MEMORY_BYTES)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    # struct kvm_userspace_memory_region: slot, flags, guest address, size, our address
    region = struct.pack("=IIQQQ", 0, 0, 0, MEMORY_BYTES, address)
    fcntl.ioctl(vm, KVM_SET_USER_MEMORY_REGION, region)
    # One 2 MiB page maps all of it: present | writable (3), and page size (0x80) at the end.
    for table, entry in ((PML4, PDPT | 3), (PDPT, PD | 3), (PD, 0x83)):
        struct.pack_into("<Q", memory, table, entry)
    memory[CODE : CODE + len(PROGRAM)] = PROGRAM

    vcpu = fcntl.ioctl(vm, KVM_CREATE_VCPU, 0)
    shared = mmap.mmap(vcpu, fcntl.ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE))  # struct kvm_run
    sregs = bytearray(312)
    fcntl.ioctl(vcpu, KVM_GET_SREGS, sregs)
    _long_mode(sregs)
    fcntl.ioctl(vcpu, KVM_SET_SREGS, bytes(sregs))

    iterations = FIRST_ITERATIONS
    slow = 0
    while slow < SLOW_ROUNDS and iterations <= MOST_ITERATIONS:
        # struct kvm_regs: rax rbx rcx rdx rsi rdi rsp rbp r8..r15 rip rflags (bit 1 always set)
        regs = struct.pack("<18Q", 0, 0, iterations, *[0] * 13, CODE, 2)
        fcntl.ioctl(vcpu, KVM_SET_REGS, regs)
        start = time.perf_counter()
        fcntl.ioctl(vcpu, KVM_RUN, 0)
        seconds = time.perf_counter() - start
        (why,) = struct.unpack_from("<I", shared, 8)  # exit_reason
        if why != KVM_EXIT_HLT:
            raise OSError(f"the guest left with KVM exit reason {why} instead of HLT")
        os.write(report, f"{iterations} {seconds:.9f}\n".encode())
        if seconds < ENOUGH_S:
            iterations *= 10
        elif iterations * INSTRUCTIONS_PER_ITERATION / seconds >= THRESHOLD_PER_S:
            return
        else:
            slow += 1


def _long_mode(sregs: bytearray) -> None:
    """Change a fresh `struct kvm_sregs` to 64-bit mode with paging."""

    def segment(kind: int, big: int, long: int) -> bytes:
        # base limit selector type present dpl db s l g avl unusable padding
        selector = 8 if long else 16
        return struct.pack("<QIH10B", 0, 2**32 - 1, selector, kind, 1, 0, big, 1, long, 1, 0, 0, 0)

    sregs[0:24] = segment(0xB, 0, 1)  # cs: code, executable, readable, accessed
    for place in range(24, 144, 24):  # ds es fs gs ss: data, writable, accessed
        sregs[place : place + 24] = segment(0x3, 1, 0)
    # The control registers begin at 224, after tr, ldt, gdt and idt: cr0 cr2 cr3 cr4 cr8 efer.
    cr0 = 0x8001_0033  # PG WP NE ET MP PE
    cr4 = 0x20  # PAE
    efer = 0x500  # LMA LME
    struct.pack_into("<6Q", sregs, 224, cr0, 0, PML4, cr4, 0, efer)


if __name__ == "__main__":
    json.dump(asdict(probe()), sys.stdout)
    print()
