"""Real programs with fixed work: what people ask of a guest. Each mixes several kinds of work."""

import pytest

from vbench.contract.guest import Endpoint
from vbench.measure import parsers
from vbench.measure.engine import Measure

pytestmark = pytest.mark.workload(category="app", counted=False)

# The image's largest library, found from both sides of a run without a chroot as well.
_LIBRARY = "$(dirname $(command -v vbench-probe))/../lib/x86_64-linux-gnu/libcrypto.so.3"
# Files of a round, in memory. Removed whatever happens.
_FOLDER = 'set -e; cd $(mktemp -d); trap "rm -rf $PWD" EXIT'

# In the guest a file system on its disk. Natively, where that disk is a file, a folder beside it:
# the host's own file system on the same device. Nothing is discarded, so that what was written
# before stays allocated; nothing is left for the kernel to do later.
_ON_DISK = """
set -e
if [ -b {disk} ]; then
  at=/tmp/vbench-app; mkdir -p $at; umount $at 2>/dev/null || :
  mkfs.ext4 -q -F -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 {disk} {size}M >&2
  mount -t ext4 {disk} $at || {{ echo "a file system on {disk} cannot be mounted" >&2; exit 77; }}
  trap "cd /; umount $at" EXIT
else
  at=$(dirname {disk})/vbench-app; rm -rf $at; mkdir $at; trap "rm -rf $at" EXIT
fi
cd $at
"""


# It times in milliseconds, and begins with 50 connections.
_REDIS_MIN = 1000


@pytest.mark.workload(unit="request", needs="network")
def bench_app_redis(measure: Measure) -> None:
    """redis: SET, then as many GET, of 100 bytes over 50 connections (redis-benchmark)."""
    measure(
        lambda requests, endpoint: (
            f"redis-benchmark -h {endpoint.address} -p {endpoint.port} -t set,get -d 100 -r 10000 "
            f"-c 50 -n {requests} --csv && echo each,{requests}"
        ),
        read=parsers.redis_benchmark,
        initial_units=_REDIS_MIN,
        min_units=_REDIS_MIN,
        server=lambda endpoint: (
            "redis-server --port 5201 --protected-mode no --save '' --dir /tmp --loglevel warning"
        ),
    )


# ab refuses fewer requests than its 16 connections, also for the eighth of a sample that tells what
# starting it costs; and making them must be little of a sample.
_REQUESTS_MIN = 8 * 64

# As Debian's nginx.conf has it where it decides anything; one process.
_NGINX = (
    "daemon off; master_process off; pid /tmp/nginx.pid; error_log stderr; events {} http { "
    "access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000; "
    "client_body_temp_path /tmp; proxy_temp_path /tmp; fastcgi_temp_path /tmp; "
    "uwsgi_temp_path /tmp; scgi_temp_path /tmp; server { listen 5201; root /tmp/vbench-www; } }"
)


@pytest.mark.workload(unit="request", needs="network")
def bench_app_nginx(measure: Measure) -> None:
    """nginx: a file of 4 KiB over 16 connections that stay open (ab)."""
    measure(
        lambda requests, endpoint: (
            f"ab -q -k -c 16 -n {requests} http://{endpoint.address}:{endpoint.port}/page"
        ),
        read=parsers.ab,
        initial_units=_REQUESTS_MIN,
        min_units=_REQUESTS_MIN,
        server=lambda endpoint: (
            "nginx -c $(mkdir -p /tmp/vbench-www; head -c 4096 /dev/zero >/tmp/vbench-www/page; "
            f"echo '{_NGINX}' >/tmp/vbench-nginx.conf; echo /tmp/vbench-nginx.conf)"
        ),
    )


# In translated code, starting the program takes as long as some transactions: a sample has 64.
_ROW = "INSERT INTO t VALUES(&, printf('%0100d', &));"


@pytest.mark.workload(unit="transaction", needs="disk")
def bench_app_sqlite(measure: Measure) -> None:
    """SQLite with its defaults: a row of 100 bytes in each transaction, on the disk (fsync)."""

    def command(transactions: int, endpoint: Endpoint) -> str:
        folder = _ON_DISK.format(disk=endpoint.scratch, size=endpoint.scratch_size_mib)
        return f"""{folder}
sqlite3 db 'CREATE TABLE t(k INTEGER PRIMARY KEY, v TEXT)'
seq {transactions} | sed "s/.*/{_ROW}/" >sql
vbench-probe timed {transactions} sqlite3 -bail db <sql
rows=$(sqlite3 db 'SELECT count(*) FROM t WHERE length(v) = 100')
[ "$rows" = {transactions} ] || {{ echo "$rows of {transactions} rows are there" >&2; exit 1; }}"""  # noqa: S608 - numbers

    measure(command, read=parsers.probe, initial_units=64, min_units=64, max_units=100_000)


@pytest.mark.workload(unit="file")
def bench_app_compile(measure: Measure) -> None:
    """A C compiler (tcc): a process for each file of 200 functions, as many at once as vCPUs."""

    def command(files: int, endpoint: Endpoint) -> str:
        return f"""{_FOLDER}
for f in $(seq 200); do
  echo "int f$f(int a, int b) {{ for (int i = 0; i < b; i++) a = a * 31 + (i ^ $f); return a; }}"
done >unit.c
seq {files} >list
vbench-probe timed {files} xargs -P {endpoint.vcpus} -I % tcc -c -o %.o unit.c <list
objects=$(ls | grep '[.]o$' | wc -l)
[ "$objects" = {files} ] || {{ echo "$objects of {files} object files are there" >&2; exit 1; }}"""

    measure(command, read=parsers.probe, initial_units=4, max_units=5000)


# Starting the programs is in a sample: in translated code it takes as long as some tenths of a MiB.
@pytest.mark.workload(unit="MiB")
def bench_app_zstd(measure: Measure) -> None:
    """zstd: a MiB of a library compressed at level 3, again and again, decompressed and checked."""

    def command(mebibytes: int, endpoint: Endpoint) -> str:
        return f"""{_FOLDER}
head -c {2 << 20} {_LIBRARY} | tail -c {1 << 20} >part
parts=$(yes part | head -n {mebibytes})
vbench-probe timed {mebibytes} sh -ec 'zstd -q -3 -c "$@" >packed; zstd -q -t packed' sh $parts
bytes=$(zstd -q -d -c packed | wc -c) asked=$(({mebibytes} << 20))
[ "$bytes" = "$asked" ] || {{ echo "$bytes of $asked bytes came back" >&2; exit 1; }}"""

    measure(command, read=parsers.probe, initial_units=4, min_units=4, max_units=200)
