/* vbench-probe: loads that guests share a host under: requests at a fixed rate, and disruptors.
 *
 * `requests` does the same work at each tick of a clock and says how late each was done: whoever
 * gets no CPU in time has later requests waiting, as a server has. `disrupt` takes what it can get
 * for a while, and ends itself and all that it started. `overhear` counts what others send. */
#include "probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SECOND_NS 1000000000ull
#define WARM_UP 5 /* requests before the first that counts: translated code is translated once */
#define BLOCK (1u << 20)
#define DISCARD 9 /* the port of RFC 863: nobody listens there */

static uint64_t cpu_ns(void)
{
    struct timespec spent;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
    return (uint64_t)spent.tv_sec * SECOND_NS + (uint64_t)spent.tv_nsec;
}

static void sleep_until(uint64_t at_ns)
{
    struct timespec at = {(time_t)(at_ns / SECOND_NS), (long)(at_ns % SECOND_NS)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
        ;
}

/* ------------------------------------------------------------------ requests */

static int run_requests(char **arguments)
{
    uint64_t count, period_us, events, before_ns = 0;
    if (!number(arguments[0], 1, 1000000, &count) || !number(arguments[1], 1, 10000000, &period_us) ||
        !number(arguments[2], 1, 1000000, &events))
        return 2;
    uint64_t *late_ns = sample_buffer(count), began = now_ns(), first = began;
    for (uint64_t i = 0; i < WARM_UP + count; i++) {
        uint64_t due = began + i * period_us * 1000;
        if (i == WARM_UP) {
            before_ns = cpu_ns();
            first = due;
        }
        sleep_until(due);
        prime_events(events);
        if (i >= WARM_UP)
            late_ns[i - WARM_UP] = now_ns() - due;
    }
    printf("{\"elapsed_ns\": %" PRIu64 ", \"units\": %" PRIu64 ", \"cpu_ns\": %" PRIu64
           ", \"response_us\": [",
           now_ns() - first, count, cpu_ns() - before_ns);
    for (uint64_t i = 0; i < count; i++)
        printf("%s%" PRIu64, i ? ", " : "", late_ns[i] / 1000);
    puts("]}");
    return 0;
}

/* ------------------------------------------------------------------ disruptors */

static volatile uint32_t *shared; /* processes that a fork bomb has made */

/* A process that dies with whoever made it, before all others if memory runs out. */
static pid_t spawn(void)
{
    pid_t child = fork();
    if (child == 0) {
        int file = open("/proc/self/oom_score_adj", O_WRONLY);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        signal(SIGCHLD, SIG_IGN);
        (void)!write(file, "1000", 4);
        close(file);
    }
    return child;
}

static void hog(void)
{
    for (;;)
        prime_events(1);
}

static void bomb(uint32_t most)
{
    for (;;) {
        if (__sync_add_and_fetch(shared, 1) > most) {
            __sync_sub_and_fetch(shared, 1);
            sched_yield();
        } else if (spawn() < 0) {
            __sync_sub_and_fetch(shared, 1);
        }
    }
}

static void eat(void)
{
    for (;;) {
        char *piece = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (piece != MAP_FAILED)
            memset(piece, 1, BLOCK);
    }
}

static void flood_disk(const char *path, uint64_t offset, uint64_t size)
{
    void *block = backed_memory(BLOCK, MADV_NORMAL);
    int file = open(path, O_WRONLY | O_DIRECT);
    if (file < 0)
        die("%s: %s", path, strerror(errno));
    for (uint64_t at = 0;; at = (at + BLOCK) % size)
        if (pwrite(file, block, BLOCK, (off_t)(offset + at)) != BLOCK)
            die("%s: %s", path, strerror(errno));
}

static void flood_network(const char *text)
{
    static char data[1400];
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(DISCARD)};
    int out = socket(AF_INET, SOCK_DGRAM, 0);
    if (inet_pton(AF_INET, text, &to.sin_addr) != 1 || out < 0)
        die("%s is no address", text);
    for (;;) /* refused or not: the next one */
        (void)!sendto(out, data, sizeof data, 0, (struct sockaddr *)&to, sizeof to);
}

/* The disruptor `kind` in processes of its own. */
static void start(const char *kind, char **arguments)
{
    uint64_t most = 1, offset = 0, size = 0;
    int eats = strcmp(kind, "memory") == 0, bombs = strcmp(kind, "fork") == 0;
    int floods = strcmp(kind, "disk") == 0;
    if ((strcmp(kind, "cpu") == 0 || bombs) &&
        (!arguments[0] || !number(arguments[0], 1, 100000, &most)))
        die("%s: how many processes?", kind);
    if (floods && (!arguments[0] || !arguments[1] || !arguments[2] ||
                   !number(arguments[1], 0, 1 << 30, &offset) ||
                   !number(arguments[2], 1, 1 << 30, &size)))
        die("disk: which file, from and for how many MiB?");
    if (strcmp(kind, "network") == 0 && !arguments[0])
        die("network: to which address?");
    for (uint64_t i = 0; i < (bombs ? 1 : most); i++) {
        pid_t child = spawn();
        if (child < 0)
            die("fork: %s", strerror(errno));
        if (child)
            continue;
        if (bombs)
            bomb((uint32_t)most);
        if (eats)
            eat();
        if (floods)
            flood_disk(arguments[0], offset << 20, size << 20);
        if (strcmp(kind, "network") == 0)
            flood_network(arguments[0]);
        hog();
    }
}

static const char *again;
static char **with;

/* Killed for its memory, it is made again. Any other end is a failure, and has been told. */
static void one_died(int number)
{
    (void)number;
    if (strcmp(again, "memory") != 0 && strcmp(again, "fork") != 0)
        kill(0, SIGKILL);
    *shared = 0;
    start(again, with);
}

static int run_disrupt(char **arguments)
{
    uint64_t ms;
    const char *known[] = {"cpu", "fork", "memory", "disk", "network", NULL}, **kind = known;
    while (*kind && strcmp(*kind, arguments[0]) != 0)
        kind++;
    if (!*kind || !number(arguments[1], 1, 3600000, &ms))
        return 2;
    uint64_t until = now_ns() + ms * 1000000;
    shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        die("mmap: %s", strerror(errno));
    again = arguments[0];
    with = arguments + 2;
    struct sigaction action = {.sa_handler = one_died, .sa_flags = SA_NOCLDWAIT | SA_NOCLDSTOP};
    sigaction(SIGCHLD, &action, NULL);
    start(again, with);
    printf("{\"disrupting\": %" PRIu64 "}\n", ms);
    fflush(stdout);
    sleep_until(until);
    /* All of our process group, ourselves as well: nothing that was started goes on. */
    kill(0, SIGKILL);
    return 0;
}

/* ------------------------------------------------------------------ what others send */

static int run_overhear(char **arguments)
{
    uint64_t ms, others = 0, own = 0;
    if (!number(arguments[0], 1, 3600000, &ms))
        return 2;
    int heard = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
    if (heard < 0)
        unsupported("a raw socket: %s", strerror(errno));
    struct if_nameindex *cards = if_nameindex();
    for (struct if_nameindex *card = cards; card && card->if_index; card++) {
        struct packet_mreq all = {.mr_ifindex = (int)card->if_index, .mr_type = PACKET_MR_PROMISC};
        setsockopt(heard, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof all);
    }
    for (uint64_t now = now_ns(), until = now + ms * 1000000; now < until; now = now_ns()) {
        char frame[64];
        struct sockaddr_ll from;
        socklen_t size = sizeof from;
        struct pollfd end = {heard, POLLIN, 0};
        if (poll(&end, 1, (int)((until - now) / 1000000) + 1) <= 0)
            continue;
        if (recvfrom(heard, frame, sizeof frame, 0, (struct sockaddr *)&from, &size) < 0)
            continue;
        others += from.sll_pkttype == PACKET_OTHERHOST;
        own += from.sll_pkttype == PACKET_HOST || from.sll_pkttype == PACKET_OUTGOING;
    }
    printf("{\"others\": %" PRIu64 ", \"own\": %" PRIu64 "}\n", others, own);
    return 0;
}

const struct command LOAD_COMMANDS[] = {
    {"requests", 3, 3, run_requests, "N US EVENTS: each US, primes; when each of N was done"},
    {"disrupt", 2, 5, run_disrupt,
     "cpu MS N | fork MS N | memory MS | disk MS FILE MIB MIB | network MS ADDRESS: for MS"},
    {"overhear", 1, 1, run_overhear, "MS: frames that were meant for others"},
    {NULL, 0, 0, NULL, NULL},
};
