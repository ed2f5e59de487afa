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

extern const struct command EXIT_COMMANDS[]; /* probe_exit.c */
extern const struct command XEN_COMMANDS[];  /* probe_xen.c */

/* End with a reason: status 1, it could not be measured. */
__attribute__((noreturn, format(printf, 1, 2))) void die(const char *format, ...);

/* End with a reason: status 77, this machine has or allows no such thing. */
__attribute__((noreturn, format(printf, 1, 2))) void unsupported(const char *format, ...);

uint64_t now_ns(void); /* CLOCK_MONOTONIC */

/* Whether text is a decimal number from low to high. */
int number(const char *text, uint64_t low, uint64_t high, uint64_t *value);

void *map_memory(size_t size, int advice);

/* Room for samples, touched beforehand so that no page fault falls into the measurement. */
uint64_t *sample_buffer(uint64_t count);

/* Print a distribution. The quantile q is the smallest sample that q of all do not exceed.
 * ticks: of the time stamp counter during elapsed, so that nanoseconds can be told in cycles. */
void print_distribution(uint64_t elapsed, uint64_t ticks, uint64_t *samples, uint64_t count);

#endif
