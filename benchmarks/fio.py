"""The probe's disk figures beside those of fio, on the same scratch disk.

    python benchmarks/fio.py [VARIANT [ROUNDS]]

Natively and in a guest of VARIANT (tcg-virtio): 4 KiB at random with one request outstanding by the
mean latency, with sixteen by the time per operation. Both use direct I/O, io_submit(2) and the
same CPUs, in turns. Prints probe ÷ fio with its 95 % interval over rounds. Needs the host's `fio`
(Debian's package); the guest gets a copy with its libraries.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from vbench import image
from vbench.contract.guest import Target
from vbench.contract.registry import Registry
from vbench.guest.native import Native
from vbench.guest.target import succeed
from vbench.hosts.local import LocalHost
from vbench.hosts.lock import local_lock
from vbench.measure import parsers
from vbench.model import Pair
from vbench.results import stats

ROUNDS = 30
TARGET_S = 0.3
TIMEOUT_S = 120.0
CASES = (("randread", 1), ("randwrite", 1), ("randread", 16), ("randwrite", 16))
IN_GUEST = "/root/fio"

Fio = Callable[[str], str]  # runs fio with these options, returns what it prints


def closure(program: str) -> bytes:
    """A tar of `program`, of its libraries and of the loader, side by side."""
    listed = subprocess.run(["ldd", program], stdout=subprocess.PIPE, text=True, check=True).stdout
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", dereference=True) as tar:
        for path in (program, *re.findall(r"(/\S+) \(0x", listed)):
            tar.add(path, Path(path).name)
    return archive.getvalue()


def by_fio(fio: Fio, disk: str, size_mib: int, pattern: str, depth: int, operations: int) -> float:
    """Seconds per operation: with one outstanding the mean latency, else by the throughput."""
    options = (
        f"--name=x --filename={disk} --size={size_mib}M --rw={pattern} --bs=4k --direct=1 "
        f"--ioengine=libaio --iodepth={depth} --number_ios={operations} --norandommap "
        f"--randrepeat=0 --invalidate=0 --output-format=json"
    )
    output = fio(options)
    (job,) = json.loads(output[output.index("{") :])["jobs"]
    found = job["write" if "write" in pattern else "read"]
    return float(found["lat_ns"]["mean"] / 1e9 if depth == 1 else 1 / found["iops"])


def by_probe(target: Target, pattern: str, depth: int, operations: int) -> float:
    at = target.endpoint
    words = f"{at.scratch} 0 {at.scratch_size_mib} {pattern} 4 {depth} {operations}"
    output = succeed(target, f"vbench-probe disk {words}", timeout_s=TIMEOUT_S)
    reading = parsers.probe(output)
    return reading.elapsed_s / reading.units


def compare(name: str, target: Target, fio: Fio, disk: str, rounds: int) -> None:
    for pattern, depth in CASES:
        operations = 1000
        for _ in range(2):
            operations = round(TARGET_S / by_probe(target, pattern, depth, operations))
        found: dict[str, list[float]] = {"probe": [], "fio": []}
        for i in range(rounds + 1):  # the first is thrown away
            for who in ("probe", "fio") if i % 2 else ("fio", "probe"):
                one = (
                    by_probe(target, pattern, depth, operations)
                    if who == "probe"
                    else by_fio(
                        fio, disk, target.endpoint.scratch_size_mib, pattern, depth, operations
                    )
                )
                found[who].append(one)
        pairs = [Pair(a, b, 0) for a, b in zip(found["fio"][1:], found["probe"][1:], strict=True)]
        ratio = stats.overhead(pairs)
        assert ratio is not None
        interval = f"{ratio.ratio:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"
        means = {who: sum(each[1:]) / rounds * 1e6 for who, each in found.items()}
        print(
            f"{name:12} {pattern:9} {depth:2} outstanding: probe {means['probe']:7.1f} us, "
            f"fio {means['fio']:7.1f} us an operation; probe / fio {interval}",
            flush=True,
        )


def main(words: Sequence[str]) -> int:
    variant = Registry.load().variant(words[0] if words else "tcg-virtio")
    rounds = int(words[1]) if len(words) > 1 else ROUNDS
    program = shutil.which("fio")
    if program is None:
        print("there is no fio here: install it (Debian's package fio)", file=sys.stderr)
        return 3
    with ExitStack() as stack:
        stack.enter_context(local_lock(print))
        host = LocalHost()
        stack.callback(host.close)
        files = image.ensure()
        host.fill_scratch()
        scratch = host.scratch()
        native = Native(host, host.upload_image(files), scratch=scratch)
        pinned = ["taskset", "-c", ",".join(map(str, native.cpus))] if native.cpus else []

        def natively(options: str) -> str:
            argv = [*pinned, program, *options.split()]
            return host.run(argv, timeout_s=TIMEOUT_S).stdout

        compare("native", native, natively, scratch.path, rounds)

        guest = variant.backend.launch(host, files, variant.options)
        stack.callback(guest.close)
        variant.backend.attest(guest)
        unpack = f"mkdir {IN_GUEST} && tar x -C {IN_GUEST}"
        unpacked = guest.run(unpack, timeout_s=TIMEOUT_S, stdin=closure(program))
        assert unpacked.status == 0, unpacked.stderr

        def in_guest(options: str) -> str:
            loader = f"{IN_GUEST}/ld-linux-x86-64.so.2 --library-path {IN_GUEST}"
            return succeed(guest, f"{loader} {IN_GUEST}/fio {options}", timeout_s=TIMEOUT_S)

        compare(variant.text, guest, in_guest, guest.endpoint.scratch, rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
