/* vbench-probe: small workloads that time themselves.
 *
 * Each command does a fixed amount of work, measures only its loop, prints nothing meanwhile, and
 * then one JSON object: {"elapsed_ns": ..., "units": ..., ...}. Exit status: 0 done, 1 could not
 * be measured (reason on standard error), 2 wrong usage, 77 this machine has or allows no such
 * thing (the same). Linked statically, so the same instructions run natively and in every guest.
 */
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/random.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define EMPTY_GROUPS 1001 /* odd: one of them is the median */
/* What reading the clock costs varies too: of a group it may be 2 % at most. */
#define CLOCK_SHARE 50
#define CHEAP_CLOCK_NS 1000 /* 20 natively, 100 translated, 20,000 in User-mode Linux */

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

void *backed_memory(size_t size, int advice)
{
    void *memory = map_memory(size, advice);
    /* In one call: each fault of its own costs a User-mode Linux guest 50 us. EINVAL: a kernel
     * before 5.14, which gives the pages at first touch. */
    if (madvise(memory, size, MADV_POPULATE_WRITE) != 0 && errno != EINVAL)
        die("madvise: %s", strerror(errno));
    /* User-mode Linux maps them on its host at their first touch all the same, 100 us each, but
     * all at once when their rights change. */
    if (mprotect(memory, size, PROT_READ) != 0 ||
        mprotect(memory, size, PROT_READ | PROT_WRITE) != 0)
        die("mprotect: %s", strerror(errno));
    return memory;
}

int open_no_atime(const char *path, int flags)
{
    int file = open(path, flags | O_NOATIME);
    return file < 0 && errno == EPERM ? open(path, flags) : file;
}

void no_preemption_at_wakeup(void)
{
    struct sched_param none = {0};
    if (sched_setscheduler(0, SCHED_BATCH, &none) != 0)
        die("SCHED_BATCH: %s", strerror(errno));
}

uint64_t *sample_buffer(uint64_t count)
{
    uint64_t *samples = malloc(count * sizeof *samples);
    if (!samples)
        die("no memory for %" PRIu64 " samples", count);
    memset(samples, 1, count * sizeof *samples);
    return samples;
}

static int ascending(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

static uint64_t median(uint64_t *samples, uint64_t count)
{
    qsort(samples, count, sizeof *samples, ascending);
    return samples[(count - 1) / 2];
}

/* Nanoseconds of a unit, of a group that took `sample`. */
static double per_unit(const struct distribution *of, double sample)
{
    double net = sample - (double)of->empty_ns;
    return net > 0 ? net / (double)of->size : 0;
}

void print_distribution(struct distribution *of)
{
    uint64_t *samples = of->samples, count = of->count, p50 = median(samples, count), equal = 0;
    double sum = 0;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t away = samples[i] > p50 ? samples[i] - p50 : p50 - samples[i];
        equal += away * 1000 <= p50;
        sum += (double)samples[i];
    }
    printf("{\"elapsed_ns\": %" PRIu64 ", \"units\": %" PRIu64 ", ", of->elapsed_ns,
           count * of->size);
    if (of->ticks)
        printf("\"tsc_ticks\": %" PRIu64 ", ", of->ticks);
    printf("\"min_ns\": %.3f, \"p50_ns\": %.3f, ", per_unit(of, (double)samples[0]),
           per_unit(of, (double)p50));
    if (of->size == 1) /* of a group of several they are no unit's */
        printf("\"p99_ns\": %.3f, \"max_ns\": %.3f, ",
               per_unit(of, (double)samples[(count * 99 + 99) / 100 - 1]),
               per_unit(of, (double)samples[count - 1]));
    printf("\"mean_ns\": %.3f, \"groups\": %" PRIu64 ", \"equal\": %.4f}\n",
           per_unit(of, sum / (double)count), count, (double)equal / (double)count);
}

static void run_nothing(uint64_t size) { (void)size; }

static void run_groups(uint64_t *samples, uint64_t count, uint64_t size, uint64_t passes,
                       void (*run)(uint64_t size))
{
    for (uint64_t i = 0; i < count; i++) {
        uint64_t before = now_ns();
        for (uint64_t pass = 0; pass < passes; pass++)
            run(size);
        samples[i] = now_ns() - before;
    }
}

/* Passes that make a group long enough for its clock; 1 where that is cheap. */
static uint64_t passes_of_group(uint64_t empty_ns, uint64_t size, uint64_t units,
                                void (*run)(uint64_t size))
{
    uint64_t passes = 1, took = 0;
    if (empty_ns <= CHEAP_CLOCK_NS)
        return 1;
    for (;; passes *= 2) {
        run_groups(&took, 1, size, passes, run);
        if (took >= CLOCK_SHARE * empty_ns || passes * 2 * size > units)
            return passes;
    }
}

int timed_groups(const char *text, uint64_t size, void (*run)(uint64_t size))
{
    uint64_t units, sum = 0, empty[EMPTY_GROUPS];
    if (!number(text, 1, MAX_SAMPLES * size, &units))
        return 2;
    run_groups(empty, EMPTY_GROUPS, 0, 1, run_nothing);
    struct distribution made = {.empty_ns = median(empty, EMPTY_GROUPS)};
    uint64_t passes = passes_of_group(made.empty_ns, size, units, run);
    made.size = size * passes;
    made.count = (units + made.size - 1) / made.size;
    made.samples = sample_buffer(made.count);
    run_groups(made.samples, made.count, size, passes, run);
    for (uint64_t i = 0; i < made.count; i++)
        sum += made.samples[i];
    if (sum > made.count * made.empty_ns)
        made.elapsed_ns = sum - made.count * made.empty_ns;
    print_distribution(&made);
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
    {"seed", 1, 1, run_seed, "FILE: 32 random bytes for the kernel's generator"},
    {NULL, 0, 0, NULL, NULL},
};

static const struct command *const TABLES[] = {
    CPU_COMMANDS, MEMORY_COMMANDS, SMP_COMMANDS, DISK_COMMANDS, NET_COMMANDS, LIFE_COMMANDS,
    LOAD_COMMANDS, APP_COMMANDS, EXIT_COMMANDS, XEN_COMMANDS, HYPERVISOR_COMMANDS, COMMANDS, NULL,
};

static int usage(void)
{
    fputs("usage: vbench-probe COMMAND ARGUMENTS\n", stderr);
    for (const struct command *const *table = TABLES; *table; table++)
        for (const struct command *command = *table; command->name; command++)
            fprintf(stderr, "  %-14s %s\n", command->name, command->help);
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
