/* vbench-probe: small workloads that time themselves.
 *
 * Each command does a fixed amount of work N, measures only its loop, and prints one JSON
 * object: {"elapsed_ns": ..., "units": N, ...}. Exit status: 0 done, 1 could not be measured
 * (reason on standard error), 2 wrong usage. Linked statically, so the same instructions run
 * natively and in every guest.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <cpuid.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096u
#define CHUNK (64u << 20)           /* bytes of fresh memory at a time: fits small guests */
#define MAX_UNITS 1000000000000ull  /* more is a typing error */
#define MAX_SAMPLES 10000000ull     /* kept in memory, eight bytes each */
#define TIMER_INTERVAL_NS 200000

/* Use a value, so that the compiler cannot drop the work that made it. */
#define KEEP(value) __asm__ volatile("" : "+r"(value))

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("vbench-probe: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Whether text is a decimal number from low to high. */
static int number(const char *text, uint64_t low, uint64_t high, uint64_t *value)
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

/* Print a distribution. The quantile q is the smallest sample that q of all do not exceed. */
static void print_distribution(uint64_t elapsed, uint64_t *samples, uint64_t count)
{
    double sum = 0;
    for (uint64_t i = 0; i < count; i++)
        sum += (double)samples[i];
    qsort(samples, count, sizeof *samples, ascending);
    printf("{\"elapsed_ns\": %" PRIu64 ", \"units\": %" PRIu64 ", \"min_ns\": %" PRIu64
           ", \"p50_ns\": %" PRIu64 ", \"p99_ns\": %" PRIu64 ", \"max_ns\": %" PRIu64
           ", \"mean_ns\": %.3f}\n",
           elapsed, count, samples[0], samples[(count - 1) / 2],
           samples[(count * 99 + 99) / 100 - 1], samples[count - 1], sum / (double)count);
}

/* Room for samples, touched beforehand so that no page fault falls into the measurement. */
static uint64_t *sample_buffer(uint64_t count)
{
    uint64_t *samples = malloc(count * sizeof *samples);
    if (!samples)
        die("no memory for %" PRIu64 " samples", count);
    memset(samples, 1, count * sizeof *samples);
    return samples;
}

static void *map_memory(size_t size, int advice)
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
    uint64_t count;
    if (!number(arguments[0], 1, MAX_SAMPLES, &count))
        return 2;
    uint64_t *late = sample_buffer(count);
    prctl(PR_SET_TIMERSLACK, 1); /* else the kernel may be 50 us late on purpose */
    uint64_t start = now_ns(), due = start;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t now = now_ns();
        do
            due += TIMER_INTERVAL_NS;
        while (due <= now); /* intervals that passed altogether are left out */
        struct timespec at = {(time_t)(due / 1000000000), (long)(due % 1000000000)};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL); /* no signals come */
        late[i] = now_ns() - due;
    }
    print_distribution(now_ns() - start, late, count);
    return 0;
}

/* A unit that is timed by itself. Each sample includes one reading of the clock: `empty`, which
 * does nothing else, is what to take off. */
static int sampled(char **arguments, void (*unit)(void))
{
    uint64_t count;
    if (!number(arguments[0], 1, MAX_SAMPLES, &count))
        return 2;
    uint64_t *samples = sample_buffer(count);
    uint64_t start = now_ns();
    for (uint64_t i = 0; i < count; i++) {
        uint64_t before = now_ns();
        unit();
        samples[i] = now_ns() - before;
    }
    print_distribution(now_ns() - start, samples, count);
    return 0;
}

static void unit_empty(void) {}

static void unit_cpuid(void)
{
    unsigned a, b, c, d;
    __cpuid(0, a, b, c, d); /* leaves every guest: the cheapest exit of hardware virtualization */
}

static const struct command {
    const char *name;
    int least, most; /* arguments */
    int (*run)(char **arguments);
    void (*unit)(void); /* for `sampled`, where run is NULL */
    const char *help;
} COMMANDS[] = {
    {"getppid", 1, 1, run_getppid, NULL, "N: system calls"},
    {"pagefault", 1, 1, run_pagefault, NULL, "N: first touches of fresh 4 KiB pages"},
    {"switch", 1, 1, run_switch, NULL, "N: round trips between two processes on one CPU"},
    {"rr-server", 1, 1, run_rr_server, NULL, "PORT: answer every connection's bytes (0: any port)"},
    {"rr-client", 3, 3, run_rr_client, NULL, "ADDRESS PORT N: round trips of one byte over TCP"},
    {"spin", 1, 3, run_spin, NULL, "N [--slow-percent P]: integer steps, P % more of them"},
    {"memrandom", 1, 2, run_memrandom, NULL, "N [--huge]: dependent loads over 64 MiB"},
    {"timer", 1, 1, run_timer, NULL, "N: lateness of timers every 200 us"},
    {"empty", 1, 1, NULL, unit_empty, "N: nothing, one by one: the clock's own cost"},
    {"cpuid", 1, 1, NULL, unit_cpuid, "N: CPUID instructions, one by one"},
};

static int usage(void)
{
    fputs("usage: vbench-probe COMMAND ARGUMENTS\n", stderr);
    for (size_t i = 0; i < sizeof COMMANDS / sizeof *COMMANDS; i++)
        fprintf(stderr, "  %-9s %s\n", COMMANDS[i].name, COMMANDS[i].help);
    return 2;
}

int main(int count, char **arguments)
{
    signal(SIGPIPE, SIG_IGN); /* a lost partner is an error with a message */
    for (size_t i = 0; count > 1 && i < sizeof COMMANDS / sizeof *COMMANDS; i++) {
        const struct command *command = &COMMANDS[i];
        char **rest = arguments + 2;
        if (strcmp(arguments[1], command->name) != 0)
            continue;
        if (count - 2 < command->least || count - 2 > command->most)
            break;
        int status = command->run ? command->run(rest) : sampled(rest, command->unit);
        if (status == 2)
            break;
        if (fflush(stdout) != 0)
            die("cannot write the result: %s", strerror(errno));
        return status;
    }
    return usage();
}
