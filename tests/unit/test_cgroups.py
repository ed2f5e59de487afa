"""Which control groups may hold us back: our own and all above it, of both versions."""

from __future__ import annotations

from vbench.system.cgroups import cpu_group, room, stat_files

V1 = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct"
V2 = "41 31 0:38 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw,nsdelegate"
OTHERS = (
    "23 1 254:0 / / rw - ext4 /dev/vda rw\n37 31 0:34 / /sys/fs/cgroup/x rw - cgroup cgroup rw,x"
)


def test_version_2_from_the_own_group_to_the_root() -> None:
    assert stat_files("0::/user.slice/a.scope\n", f"{OTHERS}\n{V2}\n") == [
        "/sys/fs/cgroup/user.slice/a.scope/cpu.stat",
        "/sys/fs/cgroup/user.slice/cpu.stat",
        "/sys/fs/cgroup/cpu.stat",
    ]


def test_version_1_has_a_hierarchy_for_the_cpu() -> None:
    text = "9:memory:/elsewhere\n4:cpu,cpuacct:/jobs/7\n1:name=systemd:/x\n0::/\n"
    assert stat_files(text, f"{OTHERS}\n{V1}\n") == [
        "/sys/fs/cgroup/cpu,cpuacct/jobs/7/cpu.stat",
        "/sys/fs/cgroup/cpu,cpuacct/jobs/cpu.stat",
        "/sys/fs/cgroup/cpu,cpuacct/cpu.stat",
    ]


def test_both_versions_may_be_mounted() -> None:
    files = stat_files("1:cpu:/a\n0::/b\n", f"{V1}\n{V2.replace('/cgroup ', '/cgroup/unified ')}\n")
    assert "/sys/fs/cgroup/cpu,cpuacct/a/cpu.stat" in files
    assert "/sys/fs/cgroup/unified/b/cpu.stat" in files


def test_a_container_sees_the_part_that_is_mounted() -> None:
    mounted = V2.replace(" / /sys", " /docker/c0de /sys")
    assert stat_files("0::/docker/c0de/job\n", mounted) == [
        "/sys/fs/cgroup/job/cpu.stat",
        "/sys/fs/cgroup/cpu.stat",
    ]
    # the own group lies outside of it
    assert stat_files("0::/../other\n", V2) == ["/sys/fs/cgroup/cpu.stat"]


def test_without_control_groups_there_is_none() -> None:
    assert stat_files("", "") == []


def test_the_group_that_gets_cpu_time() -> None:
    """Of a host with both versions it is that of version 1, where the CPU's controller is."""
    both = "3:cpuset:/a\n2:cpu,cpuacct:/machine/vm/vcpu0\n0::/session\n"
    assert cpu_group(both) == "/machine/vm/vcpu0"
    assert cpu_group("0::/machine.slice/vm.scope/libvirt/vcpu0\n").endswith("/vcpu0")
    assert cpu_group("") == ""


def test_room_for_limits_is_below_the_own_groups_of_version_1() -> None:
    mounts = "".join(
        f"3{n} 31 0:3{n} / /sys/fs/cgroup/{name} rw - cgroup cgroup rw,{name}\n"
        for n, name in enumerate(("cpu,cpuacct", "memory", "pids"))
    )
    own = "9:memory:/jobs/7\n8:pids:/\n4:cpu,cpuacct:/\n0::/\n"
    assert room(own, f"{mounts}{V2}\n") == [
        "/sys/fs/cgroup/cpu,cpuacct",
        "/sys/fs/cgroup/memory/jobs/7",
        "/sys/fs/cgroup/pids",
    ]


def test_room_for_limits_is_at_the_top_of_version_2() -> None:
    assert room("0::/user.slice/a.scope\n", f"{OTHERS}\n{V2}\n") == ["/sys/fs/cgroup"]
    assert room("", f"{OTHERS}\n") == []
