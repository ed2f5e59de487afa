"""The guest that is up just now: launched, attested, relaunched, given up."""

from __future__ import annotations

from collections.abc import Callable

import vbench
from vbench.contract.checks import returned
from vbench.contract.guest import Guest
from vbench.contract.host import Host
from vbench.contract.registry import Variant, with_options
from vbench.errors import (
    ConnectionLost,
    GuestError,
    HostError,
    LaunchError,
    LaunchTimeout,
    Unsupported,
    UsageError,
    VbenchError,
)
from vbench.model import ImageFiles, Launch
from vbench.records import Attestation, Capabilities
from vbench.run.book import Book
from vbench.run.failures import fault
from vbench.run.phases import Phases
from vbench.run.series import Series
from vbench.system.interrupts import asked_to_end

# A variant that failed to come up so often in a row is given up for the rest of the run.
LAUNCH_FAILURES_MAX = 2


class Broker:
    """Keeps one guest up at a time."""

    def __init__(
        self,
        image: ImageFiles,
        phases: Phases,
        book: Book,
        not_ended: Callable[[Series, int, VbenchError], None],
    ) -> None:
        """`book` records launches; `not_ended` gets the error of a guest that could not be ended
        as it should."""
        self.current: Guest | None = None
        self._image = image
        self._phases = phases
        self._book = book
        self._not_ended = not_ended
        self._owner: tuple[Series, int] | None = None  # whose guest it is
        self._key: tuple[str, str, int] | None = None
        self._errors: dict[tuple[str, str, int], VbenchError] = {}
        self._given_up: dict[tuple[str, str], VbenchError] = {}  # a series and a variant
        self._one_boot: set[str] = set()  # labels of series that cannot be relaunched
        self._failures: dict[tuple[str, str], int] = {}  # running, of the same

    def guest(self, series: Series, boot: int, options: str = "") -> Guest:
        """The guest of this series and boot, launched or relaunched as needed, with `options`
        in addition to those of its variant.

        Raises LaunchError, AttestationError: a boot that failed fails again at once for its other
        items, and so does a variant that failed twice running. Unsupported: its backend has no
        such options.
        """
        variant = self._variant(series, options)
        if series.label in self._one_boot:
            boot = 0
        key = (series.label, variant.text, boot)
        if self.current is not None and self._key == key and self.current.alive:
            return self.current
        self.drop()
        known = self._errors.get(key) or self._given_up.get(key[:2])
        if known is not None:
            raise known
        self._phases.enter("booting")
        try:
            guest, _ = self._launch_or_again(series, variant, boot, series.host)
        except (GuestError, HostError, ConnectionLost) as error:
            lost = isinstance(error, ConnectionLost)  # which is no fault of the variant
            failures = self._failures.get(key[:2], 0) + (not lost)
            self._failures[key[:2]] = failures
            if failures >= LAUNCH_FAILURES_MAX:
                self._given_up[key[:2]] = LaunchError(
                    f"{variant.text} is not launched any more in this run, "
                    f"because {failures} launches in a row failed",
                    remedy="mend what the error of those launches names, and measure again",
                )
            self._errors[key] = error
            raise
        self._failures[key[:2]] = 0
        self.current, self._key, self._owner = guest, key, (series, boot)
        return guest

    def another(self, series: Series, boot: int, at: Host, options: str) -> tuple[Guest, Launch]:
        """One more guest of this series and boot on `at`, its host or a port there. Whoever asked
        for it ends it. Raises as `guest`, each time anew."""
        return self._launch_or_again(series, self._variant(series, options), boot, at)

    def _variant(self, series: Series, options: str) -> Variant:
        """The series' variant with further options."""
        if not options:
            return series.variant
        try:
            return with_options(series.variant, options)
        except UsageError as error:
            raise Unsupported(error.what) from error

    def _launch_or_again(
        self, series: Series, variant: Variant, boot: int, at: Host
    ) -> tuple[Guest, Launch]:
        """A launch that was late is tried once more."""
        try:
            return self._launch(series, variant, boot, at)
        except LaunchTimeout as error:
            self._book.note("launched again", series=series.label, why=str(error))
        return self._launch(series, variant, boot, at)

    def _launch(
        self, series: Series, variant: Variant, boot: int, at: Host
    ) -> tuple[Guest, Launch]:
        """Raises LaunchError for whatever the backend's code raises."""
        try:
            return self._launched(series, variant, boot, at)
        except VbenchError:
            raise
        except BaseException as error:
            if asked_to_end(error):
                raise
            raise fault(LaunchError, f"the backend {variant.backend.name}", error) from error

    def _launched(
        self, series: Series, variant: Variant, boot: int, at: Host
    ) -> tuple[Guest, Launch]:
        backend = variant.backend
        guest = backend.launch(at, self._image, variant.options)
        can = returned(backend, "launch", getattr(guest, "capabilities", guest), Capabilities)
        try:
            attestation = returned(backend, "attest", backend.attest(guest), Attestation)
            if not can.relaunchable:
                self._one_boot.add(series.label)
                boot = 0
            launch = Launch(
                id=self._book.next_launch_id(series),
                variant=variant.text,
                boot=boot,
                argv=guest.argv,
                versions={**guest.versions, "vbench": vbench.__version__},
                image=guest.image.digest,
                attestation=attestation,
                phases=guest.phases,
                observed=guest.observed,
                device=guest.device,
                capabilities=can,
                digests=guest.digests,
            )
            self._book.launched(series, launch)
        except BaseException:
            guest.close()
            raise
        return guest, launch

    def drop(self) -> None:
        """End the guest that is up, if any. An error of that is not one of what comes next."""
        guest, owner = self.current, self._owner
        self.current, self._key, self._owner = None, None, None
        if guest is None or owner is None:
            return
        self._phases.enter("booting")
        try:
            guest.close()
        except VbenchError as error:
            self._not_ended(*owner, error)
        except BaseException as error:
            if asked_to_end(error):
                raise
            self._not_ended(*owner, fault(GuestError, "the end of the guest", error))
