"""What results record of a host."""

from __future__ import annotations

from test_doctor import FILES, PARAMETERS, FakeHost

from vbench.system.facts import facts


def test_facts_for_the_report() -> None:
    # printf %s "ID" | openssl dgst -sha256 -hmac vbench
    assert facts(FakeHost()) == {
        "machine_id": "29d036ed513c28f3",
        "address": "eb40728966a52c10",
        "cpu_model": "Ryzen",
        "cpus": "8",
        "memory_mib": "16384",
        "kernel": "6.1.0",
        "distribution": "Debian GNU/Linux 12 (bookworm)",
        "virtualization": "none",
        "qemu": "8.2.1",
        "governor": "performance",
        "turbo": "on",
        "smt": "on",
        "mitigations": (
            "mitigated: spectre_v1; vulnerable: srso; not affected by 1 others; "
            "booted with mitigations=off"
        ),
        "clocksource": "unknown",
        "page_size": "4096",
        "transparent_hugepage": "madvise",
        "tcp_congestion_control": "unknown",
        "user": "not root",
        "priority": "nice 5, SCHED_BATCH",
        "cpu_quota": "1.5",
        "scratch_file_system": "ext4",
        "scratch_device": "/dev/sda",
        "virtualization_flag": "svm",
        "kvm_modules": "kvm kvm_amd",
        "nested": "on",
        "nested_paging": "on",
    }


def test_what_kvm_was_loaded_with() -> None:
    assert facts(FakeHost({f"{PARAMETERS}/npt": "N\n"}))["nested_paging"] == "off"
    assert facts(FakeHost({f"{PARAMETERS}/nested": None}))["nested"] == "unknown"
    intel = FILES["/proc/cpuinfo"].replace("svm", "vmx")  # a kernel may have both built in
    assert facts(FakeHost({"/proc/cpuinfo": intel}))["nested"] == "unknown"


def test_machines_without_an_id_or_a_card_are_known_by_their_boot() -> None:
    bare = facts(FakeHost({"/etc/machine-id": None}, {"/sys/class/net": ""}))
    assert bare["machine_id"] == bare["address"] != "unknown"
    assert bare["machine_id"] != facts(FakeHost())["machine_id"]
    assert "c0ffee" not in str(facts(FakeHost()))
