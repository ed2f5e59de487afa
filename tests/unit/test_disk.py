"""Direct I/O is proven by what the devices of a host counted."""

from __future__ import annotations

from vbench.hosts.disk import problem

PIECE = 16 * 2048  # sectors


def growing(read: float, written: float) -> list[tuple[int, int]]:
    """Counters when of each piece such a share reached a device."""
    counts, now = [(1000, 1000)], [1000.0, 1000.0]
    for _ in range(3):
        now[0] += read * PIECE
        counts.append((int(now[0]), int(now[1])))
        now[1] += written * PIECE
        counts.append((int(now[0]), int(now[1])))
    return counts


def test_all_that_was_read_and_written_reached_a_device() -> None:
    assert problem(growing(1, 1)) == ""
    assert problem(growing(1.5, 3)) == ""  # others use the disk, too


def test_reads_from_memory_are_named() -> None:
    assert "read by direct I/O did not reach" in problem(growing(0, 1))
    assert "read by direct I/O did not reach" in problem(growing(0.5, 1))


def test_writes_to_memory_are_named() -> None:
    assert "written by direct I/O did not reach" in problem(growing(1, 0))


def test_one_read_that_others_hid_does_not_prove_the_next() -> None:
    counts = growing(0, 1)
    hidden = [(read + PIECE * (step > 0), written) for step, (read, written) in enumerate(counts)]
    assert "read by direct I/O did not reach" in problem(hidden)


def test_direct_io_that_is_refused_and_devices_that_cannot_be_seen() -> None:
    assert "refuses direct I/O" in problem([(0, 0)])
    assert "can be seen" in problem([(0, 0)] * 7)
