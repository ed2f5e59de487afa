/* What the files of vbench-probe share. */
#ifndef PROBE_H
#define PROBE_H

#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>
#include <x86intrin.h>

#define PAGE 4096u
#define CHUNK (64u << 20)       /* bytes of fresh memory at a time: fits small guests */
#define MAX_SAMPLES 10000000ull /* kept in memory, eight bytes each */

/* <xen/privcmd.h>: a hypercall through Xen's own device, /dev/xen/privcmd. */
struct privcmd_hypercall {
    uint64_t op, arg[5];
};
#define IOCTL_PRIVCMD_HYPERCALL _IOC(_IOC_NONE, 'P', 0, sizeof(struct privcmd_hypercall))

struct command {
    const char *name;           /* NULL ends a table */
    int least, most;            /* arguments */
    int (*run)(char **arguments); /* 0 done, 2 wrong usage */
    const char *help;
};

extern const struct command CPU_COMMANDS[];    /* probe_cpu.c */
extern const struct command MEMORY_COMMANDS[]; /* probe_memory.c */
extern const struct command SMP_COMMANDS[];    /* probe_smp.c */
extern const struct command DISK_COMMANDS[];   /* probe_disk.c */
extern const struct command NET_COMMANDS[];    /* probe_net.c */
extern const struct command LIFE_COMMANDS[];   /* probe_life.c */
extern const struct command LOAD_COMMANDS[];   /* probe_load.c */
extern const struct command APP_COMMANDS[];    /* probe_app.c */
extern const struct command EXIT_COMMANDS[];   /* probe_exit.c */
extern const struct command XEN_COMMANDS[];    /* probe_xen.c */
extern const struct command HYPERVISOR_COMMANDS[]; /* probe_hypervisor.c */

/* End with a reason: status 1, it could not be measured. */
__attribute__((noreturn, format(printf, 1, 2))) void die(const char *format, ...);

/* End with a reason: status 77, this machine has or allows no such thing. */
__attribute__((noreturn, format(printf, 1, 2))) void unsupported(const char *format, ...);

uint64_t now_ns(void); /* CLOCK_MONOTONIC */

/* Whether text is a decimal number from low to high. */
int number(const char *text, uint64_t low, uint64_t high, uint64_t *value);

void *map_memory(size_t size, int advice);
/* The same, and the kernel has given all of it. */
void *backed_memory(size_t size, int advice);

/* open(2) without marking reads: whether the time of the last access needs an update is a comparison
 * of time stamps, whose way depends on when they were taken. As it is where that is not allowed. */
int open_no_atime(const char *path, int flags);

/* From here on we are in the scheduling class SCHED_BATCH. In the default class a process that is
 * woken preempts the one that woke it at once or not, as the kernel's accounts of the two stand:
 * two ways of different length. In this class it never does. */
void no_preemption_at_wakeup(void);

/* Durations that were taken one by one, and what is needed to print them. */
struct distribution {
    uint64_t *samples, count; /* nanoseconds of a group of units each */
    uint64_t size;            /* units of a group */
    uint64_t empty_ns;        /* what a group without units takes */
    uint64_t elapsed_ns;      /* of all units */
    uint64_t ticks;           /* of the time stamp counter during elapsed_ns; 0: not read */
};

/* Print one JSON object: elapsed_ns, units, tsc_ticks, quantiles in nanoseconds per unit, and
 * `equal`, the share of groups within 0.1 % of the median. The quantile q is the smallest sample
 * that q of all do not exceed. Sorts the samples. */
void print_distribution(struct distribution *distribution);

/* Room for samples, touched beforehand so that no page fault falls into the measurement. */
uint64_t *sample_buffer(uint64_t count);

/* Do at least `text` units in groups of `size`: time each group by itself, and print what a unit
 * takes. Where reading the clock is dear, a group is several times `size`: else what it costs
 * would be as long as the work. Returns 2 if `text` is no such number. */
int timed_groups(const char *text, uint64_t size, void (*run)(uint64_t size));

/* So many times all primes below 2,000. */
void prime_events(uint64_t events);

/* Use a value, so that the compiler cannot drop the work that made it. */
#define KEEP(value) __asm__ volatile("" : "+r"(value))

#endif
