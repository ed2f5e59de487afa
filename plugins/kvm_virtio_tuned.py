"""kvm-virtio as its operators tune it: an I/O thread with io_uring and a queue for each vCPU at
the disk, and the network's data path in the host's kernel (vhost-net)."""

import dataclasses

from vbench.contract.hookspecs import hookimpl
from vbench.hypervisors.qemu.backend import QemuBackend
from vbench.hypervisors.qemu.options import KvmOptions
from vbench.plugins.kvm_virtio import BACKEND as PLAIN

BACKEND = dataclasses.replace(
    PLAIN,
    name="kvm-virtio-tuned",
    summary="kvm-virtio with I/O thread, io_uring, multiqueue and vhost-net",
    options=KvmOptions(aio="io_uring", vhost=True),
    iothread=True,
    multiqueue=True,
    counted=(),
)


@hookimpl
def vbench_backends() -> list[QemuBackend]:
    return [BACKEND]
