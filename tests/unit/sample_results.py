"""Made-up results for tests: seeded, so the same in every run."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import replace

from vbench.model import (
    HostFacts,
    HostKind,
    Item,
    Launch,
    Pair,
    Result,
    Statistic,
    Status,
    Technique,
    TimeBase,
)
from vbench.records import (
    Attestation,
    Capabilities,
    Clock,
    DeviceSettings,
    NativeReference,
    NetworkPath,
    Observed,
    Phase,
)

LOCAL = HostFacts(
    "local:myserver",
    HostKind.LOCAL,
    TimeBase.WALL,
    {
        "cpu_model": "Intel(R) Xeon(R) Processor @ 2.60GHz",
        "cpus": "2",
        "kernel": "6.1.0-37-amd64",
        "virtualization": "kvm",
        "governor": "unknown",
        "mitigations": "spectre_v2: Mitigation: Enhanced IBRS",
    },
)
TESTBED = HostFacts(
    "testbed:myserver",
    HostKind.TESTBED,
    TimeBase.INSTRUCTIONS,
    {"cpu_model": "QEMU Virtual CPU version 2.5+", "cpus": "1", "kernel": "6.1.0-37-amd64"},
)


def item(workload: str, pairs: Iterable[Pair] = (), **changes: object) -> Item:
    """A cpu item of `tcg` on LOCAL unless `changes` say otherwise."""
    made = Item(
        workload=workload,
        category="cpu",
        unit="event",
        statistic=Statistic.RATIO,
        definition="sha256:" + workload,
        backend="tcg",
        variant="tcg",
        technique=Technique.FULL,
        host=LOCAL.identity,
        host_kind=LOCAL.kind,
        time_base=LOCAL.time_base,
        status=Status.OK,
        work=1000,
        native_work=8000,
        pairs=tuple(pairs),
        launches=("tcg-0",),
        commands={"guest": f"probe {workload}", "native": f"probe {workload} --native"},
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def pairs(
    overhead: float,
    native_s: float | None = 1e-6,
    *,
    boots: int = 5,
    rounds: int = 3,
    spread: float = 0.02,
    seed: object = 0,
    counters: Mapping[str, float] | None = None,
) -> tuple[Pair, ...]:
    """Pairs around `overhead` (or around `overhead` seconds where `native_s` is None)."""
    rng = random.Random(str(seed))  # noqa: S311
    made = []
    for boot in range(boots):
        shift = rng.gauss(0, spread)
        for _ in range(rounds):
            noise = 1 + shift + rng.gauss(0, spread / 4)
            native = None if native_s is None else native_s * (1 + rng.gauss(0, spread / 4))
            made.append(
                Pair(native, (native or 1.0) * overhead * noise, boot, counters=counters or {})
            )
    return tuple(made)


def launch(variant: str, boot: int, **changes: object) -> Launch:
    made = Launch(
        id=f"{variant}-{boot}",
        variant=variant,
        boot=boot,
        argv=("qemu-system-x86_64", "-accel", variant.split("-", 1)[0], "-append", "quiet a|b"),
        versions={"qemu": "7.2.22", "vbench": "0.1.0"},
        digests={"qemu": "beef"},
        image="sha256:0123456789abcdef",
        attestation=Attestation(
            f"QEMU {variant.split('-', maxsplit=1)[0].upper()}; ata_piix on sda",
            {"query-kvm": "enabled: false", "clocksource": "hpet"},
        ),
        phases=(
            Phase("kernel", "userspace", Clock.GUEST, 2.0 + boot / 10),
            Phase("launch", "ready", Clock.CLIENT, 4.0 + boot / 10),
        ),
        observed=Observed("6.1.0-37-amd64", mitigations="spectre_v2: Mitigation: Retpolines"),
        device=DeviceSettings("pc-i440fx-7.2", further={"cache": "none"}),
        capabilities=Capabilities(
            NativeReference.LAUNCHING_HOST, NetworkPath.NAT, "QEMU's user-mode stack"
        ),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def result(*items: Item, host: HostFacts = LOCAL, **changes: object) -> Result:
    variant = items[0].variant if items else "tcg"
    made = Result(
        host=host,
        variant=variant,
        items=tuple(items),
        launches=tuple(launch(variant, boot) for boot in range(2)),
        vbench_version="0.1.0",
        image="sha256:0123456789abcdef",
        started="2026-01-02T03:04:05Z",
        argv=("vbench", "run", "--backend", variant),
        facts={
            "windows": {"text": "yes", "source": "QEMU documentation"},
            "usage": {"text": "legacy", "source": "the introduction"},
            "guest_os": {"text": "not required", "source": "the introduction"},
            "technology": {"text": "binary translation", "source": "QEMU documentation"},
        },
    )
    return replace(made, **changes)  # type: ignore[arg-type]


UNUSABLE = "/dev/kvm interprets | 1.3 M instructions/s"


def full_run() -> list[Result]:
    """Two variants by the clock and one by instruction counts, with all that can go wrong."""
    made = []
    for variant, disk in (("tcg", 2.2), ("tcg-virtio", 1.6)):
        common: dict[str, object] = {"variant": variant, "backend": variant}
        latency = tuple(
            replace(p, quantiles={"p50": (4e-6, 7e-6), "max": (6e-5, 4e-4 + p.boot * 1e-4)})
            for p in pairs(1.0, 1e-3, seed="latency")
        )
        items = [
            item("cpu-prime", pairs(1.8, 8e-4, seed=variant), **common),
            item("cpu-sha256", pairs(1.3, 2e-5, seed=variant + "sha"), **common),
            item(
                "memory-pagefault",
                pairs(14, 6e-7, seed=variant),
                category="memory",
                unit="fault",
                flags=("kernel_differs",),
                **common,
            ),
            item(
                "disk-randread-qd1",
                pairs(disk, 9e-5, seed=variant, counters={"host_cpu_s": 2e-4, "exits": 7.0}),
                category="disk",
                unit="read",
                flags=("kernel_differs",),
                **common,
            ),
            item(
                "disk-read-1m",
                pairs(disk, 5e-10, seed=variant + "seq"),
                category="disk",
                unit="byte",
                **common,
            ),
            item(
                "network-rr",
                pairs(9e-5, None, seed=variant),
                category="network",
                unit="transaction",
                flags=("nat",),
                **common,
            ),
            item(
                "cyclictest",
                latency,
                category="interrupt",
                statistic=Statistic.QUANTILES,
                **common,
            ),
            item(
                "boot",
                pairs(6.0, None, rounds=1, seed=variant),
                category="boot",
                unit="boot",
                statistic=Statistic.ABSOLUTE,
                **common,
            ),
            item(
                "syscall-getppid",
                (),
                category="syscall",
                status=Status.FAILED,
                reason="exit 1 | no",
            )
            if variant == "tcg"
            else item(
                "syscall-getppid",
                pairs(3.0, 6e-8),
                category="syscall",
                flags=("kernel_differs",),
                **common,
            ),
        ]
        unavailable = (("kvm-virtio", Technique.HARDWARE.value, UNUSABLE, "use --host testbed"),)
        made.append(result(*items, unavailable=unavailable))
    counted: dict[str, object] = {
        "variant": "kvm-virtio",
        "backend": "kvm-virtio",
        "technique": Technique.HARDWARE,
        "host": TESTBED.identity,
        "host_kind": TESTBED.kind,
        "time_base": TESTBED.time_base,
    }
    made.append(
        result(
            item("cpu-prime", [Pair(2e-7, 2.02e-7, b) for b in (0, 0, 1, 1)], **counted),
            item(
                "disk-randread-qd1",
                [Pair(1e-5, 4.5e-5, b) for b in (0, 0, 1, 1)],
                category="disk",
                unit="read",
                **counted,
            ),
            host=TESTBED,
            facts={"windows": {"text": "yes", "source": "KVM documentation"}},
        )
    )
    return made
