"""Life and death of one Xen domain, through xl in dom0."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping

from vbench.contract.host import Host, HostProcess
from vbench.errors import (
    UNSUPPORTED_STATUS,
    ConnectionLost,
    GuestLost,
    HostError,
    LaunchError,
)
from vbench.guest.command import ProcessMachine

# xl prepares memory, disk and network within a second; its own limit for hotplug scripts is 40.
XL_TIMEOUT_S = 60.0

# $1 configuration file, $2 name, $3 file of a saved state or nothing. Creates the domain, or
# restores it, then is its console, on standard error, for as long as it lives. The domain belongs
# to Xen and not to us: what destroys it when our end of standard input closes, however that
# happens, must outlive this process, so it has a session of its own. An xl that crashes, as of the
# state of another version, leaves half of a domain behind.
_LIFE = r"""
PATH=$PATH:/usr/sbin:/sbin
exec 3<&0 >&2
if [ "$3" ]; then xl restore -p "$1" "$3"; else xl create -q -p "$1"; fi || {
  status=$?
  xl destroy "$2" 2>/dev/null
  exit $status
}
id=$(xl domid "$2") || exit
{ setsid sh -c 'trap "" INT TERM HUP; echo; exec >/dev/null; read -r _ <&3; exec xl destroy "$1"' \
  sh "$id" </dev/null 2>/dev/null & } | read -r _  # until it has its session
echo "VBENCH-DOMAIN $id"
xl unpause "$id" || exit
exec xl console -t pv "$id" <&3
"""
_DOMAIN = "VBENCH-DOMAIN "
# $1 a domain. What `xl create` leaves in the background, to destroy a domain that crashes, goes
# when the domain is suspended for the first time (xl: "Domain has suspended"). This does it then.
_WATCH = r"""
PATH=$PATH:/usr/sbin:/sbin
while set -- "$1" $(xl list "$1" 2>/dev/null | tail -n 1) && [ "$3" = "$1" ]; do
  case $6 in *[sc]*) exec xl destroy "$1" ;; esac  # shut down, crashed
  sleep 1
done
"""


class XlMachine(ProcessMachine):
    """A domain, from `xl create` or `xl restore` to `xl destroy`. `process` is its console, which
    ends with it."""

    def __init__(
        self,
        host: Host,
        name: str,
        config: str,
        config_path: str,
        probe: str = "vbench-probe",
        state: str = "",
    ) -> None:
        """Create and start it, or restore it from the file `state`; `probe` is the path of
        vbench-probe in dom0. Raises LaunchError with xl's own words."""
        self.host = host
        self._probe = probe
        self.name = name
        how = ("restore", config_path, state) if state else ("create", config_path)
        self.argv = ("xl", *how)
        self._config = config
        self._closed = False
        self._watch: HostProcess | None = None
        host.write(config_path, config.encode())
        self.process = host.start(["sh", "-c", _LIFE, "vbench", config_path, name, state])
        try:
            line = self.process.wait_for(
                lambda line: line.startswith(_DOMAIN), XL_TIMEOUT_S * host.timeout_scale
            )
        except BaseException:
            self.process.kill()
            raise
        if line is None:
            status = self.process.wait(1.0)
            self.process.kill()
            raise LaunchError(
                f"xl {'restored' if state else 'created'} no domain (exit status {status})",
                evidence=self.evidence(),
                remedy="`xl dmesg` and /var/log/xen on the host may say more",
            )
        self.domid = int(line.removeprefix(_DOMAIN))

    def evidence(self, lines: int = 15) -> str:
        """The configuration, and the last `lines` of what xl and the console said."""
        tail = self.console().splitlines()[-lines:]
        return "\n".join([" ".join(self.argv), *self._config.splitlines(), *tail])

    def silence(self) -> str:
        """What Xen says of a domain that does not answer, twice: its vCPUs' states and times."""
        lines = []
        try:
            for _ in range(2):
                command = ["xl", "vcpu-list", str(self.domid)]
                lines.append(self.host.run(command, timeout_s=XL_TIMEOUT_S).stdout.strip())
        except (HostError, ConnectionLost) as error:
            lines.append(f"no more could be asked: {error.what}")
        return "\n".join(lines)

    def pause(self) -> None:
        self._xl("pause")

    def resume(self) -> None:
        self._xl("unpause")

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """While the context lasts it may be suspended, and goes on. Raises HostError."""
        if self._watch is not None:
            self._watch.kill()
        try:
            yield
        finally:
            self._watch = self.host.start(["sh", "-c", _WATCH, "vbench-watch", str(self.domid)])

    def usage(self) -> Mapping[str, float]:
        """CPU seconds: `vcpu_cpu_s` of the domain, `host_cpu_s` with dom0, which serves its
        devices. Empty where Xen does not tell. Raises GuestLost."""
        done = self.host.run([self._probe, "xen-cpu", str(self.domid)], timeout_s=XL_TIMEOUT_S)
        if done.status == UNSUPPORTED_STATUS:
            return {}
        if done.status != 0:
            raise GuestLost(f"the domain is gone: {done.stderr.strip()}", evidence=self.evidence())
        spent = json.loads(done.stdout)
        return {
            "host_cpu_s": (spent["cpu_ns"] + spent["dom0_ns"]) / 1e9,
            "vcpu_cpu_s": spent["cpu_ns"] / 1e9,
        }

    def close(self) -> None:
        """Destroy the domain. Never raises for one that has ended."""
        if self._watch is not None:
            self._watch.kill()
        try:
            # One whose console has ended may hold its devices still. Negative: the host is gone.
            if (self.process.status() or 0) >= 0 and not self._closed:
                self._closed = True
                with contextlib.suppress(HostError, ConnectionLost):
                    self.host.run(["xl", "destroy", str(self.domid)], timeout_s=XL_TIMEOUT_S)
        finally:
            self.process.kill()  # and if it is still there, what waits for this destroys it

    def _xl(self, command: str) -> None:
        done = self.host.run(["xl", command, str(self.domid)], timeout_s=XL_TIMEOUT_S)
        if done.status != 0:
            raise GuestLost(
                f"xl {command} failed: {done.stderr.strip() or f'exit status {done.status}'}",
                evidence=self.evidence(),
            )
