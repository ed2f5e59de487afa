"""What is run in the testbed to prepare it: disks, network, the breakpoint. Shell."""

from __future__ import annotations

from vbench.hosts import netns

SCRATCH_MIB = 128
FILES = "/run/vbench"  # where the files of an image are

# A kernel is a file for QEMU's sake, which cannot load one from a block device.
PREPARE = f"""
set -e
mkdir -p {FILES}
dd if=/dev/vda of={FILES}/vmlinux bs=1M
test ! -b /dev/vdc || dd if=/dev/vdc of={FILES}/vmlinuz bs=1M
modprobe brd rd_nr=1 rd_size={SCRATCH_MIB << 10}
"""

# Where the kernel's entry code ends and interrupts are handled. The first instruction there is
# the call of ftrace, which would be used in place of a breakpoint: 5 bytes, or 4 + 5 where an
# endbr64 precedes it. Nothing is recorded, the exception alone is wanted.
BREAKPOINT = """
mount -t tracefs none /sys/kernel/tracing
cd /sys/kernel/tracing && echo 0 > tracing_on && echo 0 > /proc/sys/debug/kprobes-optimization ||
  exit
for offset in 5 9; do
  echo "p:vbench __common_interrupt+$offset" > kprobe_events || continue
  echo 1 > events/kprobes/vbench/enable && echo "breakpoint at __common_interrupt+$offset"
  exit
done
"""

# The same random MiB over and over: what matters is that every page of the RAM disk is there, and
# none in the page cache, where direct I/O would have to look first: 340 of 5,900 instructions. So
# it is written directly as well, in 40 % of the time, and what the kernel read of it is dropped.
# 16 MiB at a time, for each start of a program costs.
FILL = f"""
set -e
dd if=/dev/urandom of={FILES}/random bs=1M count=1
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do cat {FILES}/random; done >{FILES}/filling
i=0
while [ $i -lt {SCRATCH_MIB >> 4} ]; do
  dd if={FILES}/filling of=/dev/ram0 bs=16M seek=$i oflag=direct
  i=$((i + 1))
done
rm {FILES}/filling
echo 1 > /proc/sys/vm/drop_caches
"""

# tap0 for guests here, veth1 for native servers in a network namespace of their own; the
# addresses are those of hosts/netns.py. vnet_hdr: offloads, for virtio-net.
NETWORK = f"""
set -e
ip=/usr/bin/ip  # the shell would prefer its own
$ip tuntap add dev tap0 mode tap vnet_hdr
$ip address add {netns.TAP_END} dev tap0
$ip link set tap0 up
mkdir -p /run/netns
$ip netns add native
$ip link add veth0 type veth peer name veth1 netns native
$ip address add {netns.VETH_END} dev veth0
$ip link set veth0 up
$ip -n native link set lo up
$ip -n native address add {netns.NATIVE_END} dev veth1
$ip -n native link set veth1 up
"""
# $1... numbers of ports
BRIDGE = f"""
set -e
ip=/usr/bin/ip
$ip link add bridge address {netns.BRIDGE_MAC} type bridge
$ip address add {netns.BRIDGE_END} dev bridge
$ip link set bridge up
for number; do
  $ip tuntap add dev port$number mode tap vnet_hdr
  $ip link set port$number master bridge up
done
"""
NO_BRIDGE = """
for name in bridge $(printf 'port%s ' "$@"); do /usr/bin/ip link delete $name; done
"""
