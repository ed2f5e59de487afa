/* vbench-probe: small workloads that time themselves.
 *
 * Each command does a fixed amount of work N, measures only its loop, and prints one JSON
 * object: {"elapsed_ns": ..., "units": N, ...}. Exit status: 0 done, 1 could not be measured
 * (reason on standard error), 2 wrong usage, 77 this machine has or allows no such thing (the
 * same). Linked statically, so the same instructions run natively and in every guest.
 */
#include "probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/random.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_UNITS 1000000000000ull  /* more is a typing error */
#define TIMER_INTERVAL_US 200

/* Use a value, so that the compiler cannot drop the work that made it. */
#define KEEP(value) __asm__ volatile("" : "+r"(value))

static void complain(const char *format, va_list arguments)
{
    fputs("vbench-probe: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
}

void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    complain(format, arguments);
    exit(1);
}

void unsupported(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    complain(format, arguments);
    exit(77);
}

uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Whether text is a decimal number from low to high. */
int number(const char *text, uint64_t low, uint64_t high, uint64_t *value)
{
    char *end;
    if (*text < '0' || *text > '9')
        return 0; /* strtoull takes signs and blanks */
    errno = 0;
    *value = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0' && *value >= low && *value <= high;
}

static int units(const char *text, uint64_t *count) { return number(text, 1, MAX_UNITS, count); }

static void print_result(uint64_t elapsed, uint64_t count)
{
    printf("{\"elapsed_ns\": %" PRIu64 ", \"units\": %" PRIu64 "}\n", elapsed, count);
}

static int ascending(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

void print_distribution(uint64_t elapsed, uint64_t ticks, uint64_t *samples, uint64_t count)
{
    double sum = 0;
    for (uint64_t i = 0; i < count; i++)
        sum += (double)samples[i];
    qsort(samples, count, sizeof *samples, ascending);
    printf("{\"elapsed_ns\": %" PRIu64 ", \"units\": %" PRIu64 ", \"tsc_ticks\": %" PRIu64
           ", \"min_ns\": %" PRIu64 ", \"p50_ns\": %" PRIu64 ", \"p99_ns\": %" PRIu64
           ", \"max_ns\": %" PRIu64 ", \"mean_ns\": %.3f}\n",
           elapsed, count, ticks, samples[0], samples[(count - 1) / 2],
           samples[(count * 99 + 99) / 100 - 1], samples[count - 1], sum / (double)count);
}

uint64_t *sample_buffer(uint64_t count)
{
    uint64_t *samples = malloc(count * sizeof *samples);
    if (!samples)
        die("no memory for %" PRIu64 " samples", count);
    memset(samples, 1, count * sizeof *samples);
    return samples;
}

void *map_memory(size_t size, int advice)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        die("mmap of %zu bytes: %s", size, strerror(errno));
    /* EINVAL: a kernel without huge pages, where there is nothing to advise. */
    if (madvise(memory, size, advice) != 0 && errno != EINVAL)
        die("madvise: %s", strerror(errno));
    return memory;
}

static int run_getppid(char **arguments)
{
    uint64_t count;
    if (!units(arguments[0], &count))
        return 2;
    uint64_t start = now_ns();
    for (uint64_t i = 0; i < count; i++)
        syscall(SYS_getppid); /* not getppid(): no libc may cache or shorten it */
    print_result(now_ns() - start, count);
    return 0;
}

static long minor_faults(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt;
}

static int run_pagefault(char **arguments)
{
    uint64_t count, elapsed = 0, faults = 0;
    if (!units(arguments[0], &count))
        return 2;
    for (uint64_t left = count; left > 0;) {
        uint64_t pages = left < CHUNK / PAGE ? left : CHUNK / PAGE;
        volatile char *memory = map_memory(pages * PAGE, MADV_NOHUGEPAGE);
        long before = minor_faults();
        uint64_t start = now_ns();
        for (uint64_t page = 0; page < pages; page++)
            memory[page * PAGE] = 1;
        elapsed += now_ns() - start;
        faults += (uint64_t)(minor_faults() - before);
        munmap((void *)memory, pages * PAGE);
        left -= pages;
    }
    /* Huge pages or prefaulting would make this another experiment. A few faults of our own
     * (stack, libc) count only when N is tiny. */
    uint64_t tolerated = count / 100 + 4;
    if (faults + tolerated < count || faults > count + tolerated)
        die("%" PRIu64 " pages touched, but %" PRIu64 " minor faults", count, faults);
    printf("{\"elapsed_ns\": %" PRIu64 ", \"units\": %" PRIu64 ", \"minor_faults\": %" PRIu64 "}\n",
           elapsed, count, faults);
    return 0;
}

/* One process writes, the other answers: a round trip is two switches on their common CPU. */
static void exchange(int in, int out, uint64_t count, int first)
{
    char byte = 0;
    for (uint64_t i = 0; i < count; i++)
        if ((first && write(out, &byte, 1) != 1) || read(in, &byte, 1) != 1 ||
            (!first && write(out, &byte, 1) != 1))
            die("a pipe broke");
}

static int run_switch(char **arguments)
{
    uint64_t count;
    int there[2], back[2], status;
    cpu_set_t cpus;
    if (!units(arguments[0], &count))
        return 2;
    int cpu = sched_getcpu();
    CPU_ZERO(&cpus);
    CPU_SET(cpu < 0 ? 0 : cpu, &cpus);
    if (sched_setaffinity(0, sizeof cpus, &cpus) != 0)
        die("cannot stay on CPU %d: %s", cpu, strerror(errno));
    if (pipe(there) != 0 || pipe(back) != 0)
        die("pipe: %s", strerror(errno));
    pid_t child = fork();
    if (child < 0)
        die("fork: %s", strerror(errno));
    if (child == 0) {
        close(there[1]); /* so that the child ends when the parent does */
        exchange(there[0], back[1], count + 1, 0);
        _exit(0);
    }
    exchange(back[0], there[1], 1, 1); /* the child runs now: its start is not measured */
    uint64_t start = now_ns();
    exchange(back[0], there[1], count, 1);
    uint64_t elapsed = now_ns() - start;
    if (waitpid(child, &status, 0) != child || status != 0)
        die("the other process failed");
    print_result(elapsed, count);
    return 0;
}

static void no_delay(int connection)
{
    int on = 1; /* a byte must go out at once */
    if (setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0)
        die("TCP_NODELAY: %s", strerror(errno));
}

static int run_rr_server(char **arguments)
{
    uint64_t port;
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    int on = 1;
    char byte;
    if (!number(arguments[0], 0, 65535, &port))
        return 2;
    address.sin_port = htons((uint16_t)port);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(listener, 1) != 0 || getsockname(listener, (struct sockaddr *)&address, &size) != 0)
        die("port %" PRIu64 ": %s", port, strerror(errno));
    printf("{\"listening\": %d}\n", ntohs(address.sin_port)); /* the sign to start the client */
    fflush(stdout);
    for (;;) { /* until it is ended: a new client for every round */
        int connection = accept(listener, NULL, NULL);
        if (connection < 0)
            die("accept: %s", strerror(errno));
        no_delay(connection);
        while (read(connection, &byte, 1) == 1)
            if (write(connection, &byte, 1) != 1)
                break; /* the client went away; it knows */
        close(connection);
    }
}

static int run_rr_client(char **arguments)
{
    uint64_t port, count;
    struct sockaddr_in address = {.sin_family = AF_INET};
    char byte = 0;
    if (inet_pton(AF_INET, arguments[0], &address.sin_addr) != 1 ||
        !number(arguments[1], 1, 65535, &port) || !units(arguments[2], &count))
        return 2;
    address.sin_port = htons((uint16_t)port);
    int connection = socket(AF_INET, SOCK_STREAM, 0);
    if (connection < 0 || connect(connection, (struct sockaddr *)&address, sizeof address) != 0)
        die("%s:%" PRIu64 ": %s", arguments[0], port, strerror(errno));
    no_delay(connection);
    uint64_t start = now_ns();
    for (uint64_t i = 0; i < count; i++)
        if (write(connection, &byte, 1) != 1 || read(connection, &byte, 1) != 1)
            die("the server went away after %" PRIu64 " answers", i);
    print_result(now_ns() - start, count);
    return 0;
}

/* The positive control: a slowdown of known size that the statistics must find. */
static int run_spin(char **arguments)
{
    uint64_t count, percent = 0, value = 1;
    if (!units(arguments[0], &count) ||
        (arguments[1] && (strcmp(arguments[1], "--slow-percent") != 0 || !arguments[2] ||
                          !number(arguments[2], 0, 10000, &percent))))
        return 2;
    uint64_t steps = count + count * percent / 100;
    uint64_t start = now_ns();
    for (uint64_t i = 0; i < steps; i++) {
        value = value * 6364136223846793005u + 1442695040888963407u;
        KEEP(value); /* keeps the compiler from combining steps */
    }
    print_result(now_ns() - start, count);
    return 0;
}

struct line { /* of the cache */
    struct line *next;
    char padding[56];
};

static int run_memrandom(char **arguments)
{
    uint64_t count, random = 88172645463325252u;
    if (!units(arguments[0], &count) || (arguments[1] && strcmp(arguments[1], "--huge") != 0))
        return 2;
    struct line *lines = map_memory(CHUNK, arguments[1] ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    size_t size = CHUNK / sizeof *lines;
    for (size_t i = 0; i < size; i++)
        lines[i].next = &lines[i];
    for (size_t i = size - 1; i > 0; i--) { /* Sattolo: one cycle through all lines */
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        size_t other = random % i;
        struct line *next = lines[i].next;
        lines[i].next = lines[other].next;
        lines[other].next = next;
    }
    struct line *line = lines;
    uint64_t start = now_ns();
    for (uint64_t i = 0; i < count; i++)
        line = line->next; /* each load needs the one before: latency, not bandwidth */
    KEEP(line);
    print_result(now_ns() - start, count);
    return 0;
}

static int run_timer(char **arguments)
{
    uint64_t count, interval_us = TIMER_INTERVAL_US;
    if (!number(arguments[0], 1, MAX_SAMPLES, &count) ||
        (arguments[1] && !number(arguments[1], 1, 10000000, &interval_us)))
        return 2;
    uint64_t *late = sample_buffer(count);
    prctl(PR_SET_TIMERSLACK, 1); /* else the kernel may be 50 us late on purpose */
    uint64_t start = now_ns(), ticks = __rdtsc(), due = start;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t now = now_ns();
        do
            due += interval_us * 1000;
        while (due <= now); /* intervals that passed altogether are left out */
        struct timespec at = {(time_t)(due / 1000000000), (long)(due % 1000000000)};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL); /* no signals come */
        late[i] = now_ns() - due;
    }
    print_distribution(now_ns() - start, __rdtsc() - ticks, late, count);
    return 0;
}

/* The kernel's generator of random numbers waits for entropy, and an SSH server for the generator:
 * a second and more where no device brings any. */
static int run_seed(char **arguments)
{
    struct {
        int bits, size; /* struct rand_pool_info */
        uint8_t bytes[32];
    } seed = {.bits = 256, .size = 32};
    int file = open(arguments[0], O_RDONLY), pool = open("/dev/random", O_RDWR);
    if (file < 0 || read(file, seed.bytes, sizeof seed.bytes) != sizeof seed.bytes)
        die("%s: no 32 bytes", arguments[0]);
    if (pool < 0 || ioctl(pool, RNDADDENTROPY, &seed) != 0)
        die("/dev/random: %s", strerror(errno));
    return 0;
}

static const struct command COMMANDS[] = {
    {"getppid", 1, 1, run_getppid, "N: system calls"},
    {"pagefault", 1, 1, run_pagefault, "N: first touches of fresh 4 KiB pages"},
    {"switch", 1, 1, run_switch, "N: round trips between two processes on one CPU"},
    {"rr-server", 1, 1, run_rr_server, "PORT: answer every connection's bytes (0: any port)"},
    {"rr-client", 3, 3, run_rr_client, "ADDRESS PORT N: round trips of one byte over TCP"},
    {"spin", 1, 3, run_spin, "N [--slow-percent P]: integer steps, P % more of them"},
    {"memrandom", 1, 2, run_memrandom, "N [--huge]: dependent loads over 64 MiB"},
    {"seed", 1, 1, run_seed, "FILE: 32 random bytes for the kernel's generator"},
    {"timer", 1, 2, run_timer, "N [US]: lateness of sleeps that end every US (200) us"},
    {NULL, 0, 0, NULL, NULL},
};

static const struct command *const TABLES[] = {COMMANDS, EXIT_COMMANDS, XEN_COMMANDS, NULL};

static int usage(void)
{
    fputs("usage: vbench-probe COMMAND ARGUMENTS\n", stderr);
    for (const struct command *const *table = TABLES; *table; table++)
        for (const struct command *command = *table; command->name; command++)
            fprintf(stderr, "  %-9s %s\n", command->name, command->help);
    return 2;
}

static const struct command *find(const char *name)
{
    for (const struct command *const *table = TABLES; *table; table++)
        for (const struct command *command = *table; command->name; command++)
            if (strcmp(name, command->name) == 0)
                return command;
    return NULL;
}

int main(int count, char **arguments)
{
    signal(SIGPIPE, SIG_IGN); /* a lost partner is an error with a message */
    const struct command *command = count > 1 ? find(arguments[1]) : NULL;
    if (!command || count - 2 < command->least || count - 2 > command->most)
        return usage();
    int status = command->run(arguments + 2);
    if (status == 2)
        return usage();
    if (fflush(stdout) != 0)
        die("cannot write the result: %s", strerror(errno));
    return status;
}
