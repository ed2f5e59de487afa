/* vbench-probe: counts what Xen's trace holds of one domain (xentrace(8), xen/public/trace.h).
 *
 * It runs in dom0, where the trace is: a tenth of a second of a busy domain is megabytes of it.
 */
#include "probe.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LOST_RECORDS 0x0001f001u
#define CPU_CHANGE 0x0001f003u   /* what follows is another CPU's; written by xentrace */
#define SCHED_SWITCH 0x0002800au /* previous domain, its vCPU, next domain, its vCPU */
#define PV_CLASS 0x00201000u     /* TRC_PV_ENTRY */
#define PV_SUBCALL 0x0020200eu   /* a call inside a multicall */
#define PV_64 0x100u             /* the same event of a 64-bit domain */
#define PV_HYPERCALL 13
#define NUMBER 0xfffffu          /* of a hypercall; above it, which arguments follow */
#define CPUS 4096u
#define CALLS 64

/* By the low bits of the event; NULL: not a way from the domain to Xen. */
static const char *const PV_EVENTS[16] = {
    [3] = "trap",
    [4] = "page fault",
    [5] = "forced invalid opcode",
    [6] = "privileged instruction",
    [8] = "floating point unit",
    [9] = "paging fixup",
    [10] = "descriptor table fault",
    [11] = "page table write",
    [12] = "page table write, PAE",
};

struct counts {
    uint64_t events[16], calls[CALLS], subcalls[CALLS], lost;
};

static void count(struct counts *counts, uint32_t event, const uint32_t *extra, unsigned words)
{
    event &= ~PV_64;
    if (event == PV_SUBCALL && words)
        counts->subcalls[(extra[0] & NUMBER) % CALLS]++;
    else if (event == PV_CLASS + PV_HYPERCALL && words)
        counts->calls[(extra[0] & NUMBER) % CALLS]++;
    else if (event - PV_CLASS < 16)
        counts->events[event - PV_CLASS]++;
}

/* Which domain runs on each CPU is told by the switches; before a CPU's first, nobody is counted. */
static void read_trace(FILE *file, uint64_t domain, struct counts *counts)
{
    static uint32_t running[CPUS];
    memset(running, 0xff, sizeof running);
    uint32_t head, cycles[2], extra[7] = {0}, cpu = 0;
    while (fread(&head, sizeof head, 1, file) == 1) {
        uint32_t event = head & 0x0fffffff;
        unsigned words = head >> 28 & 7;
        if ((head >> 31 && fread(cycles, sizeof cycles, 1, file) != 1) ||
            fread(extra, sizeof *extra, words, file) != words)
            die("the trace ends within a record");
        if (event == CPU_CHANGE)
            cpu = extra[0] % CPUS;
        else if (event == LOST_RECORDS)
            counts->lost += extra[0];
        else if (event == SCHED_SWITCH && words >= 4)
            running[cpu] = extra[2];
        else if (running[cpu] == domain)
            count(counts, event, extra, words);
    }
}

static void print(const char *name, const char *number, uint64_t value)
{
    if (value)
        printf(", \"%s%s\": %llu", name, number, (unsigned long long)value);
}

static int run_xen_trace(char **arguments)
{
    static struct counts counts;
    uint64_t domain;
    if (!number(arguments[1], 1, 0x7fef, &domain))
        return 2;
    FILE *file = fopen(arguments[0], "rb");
    if (!file)
        die("%s: %s", arguments[0], strerror(errno));
    read_trace(file, domain, &counts);
    printf("{\"lost\": %llu", (unsigned long long)counts.lost);
    for (unsigned i = 0; i < 16; i++)
        if (PV_EVENTS[i])
            print(PV_EVENTS[i], "", counts.events[i]);
    for (unsigned i = 0; i < CALLS; i++) {
        char number[8];
        snprintf(number, sizeof number, " %u", i);
        print("hypercall", number, counts.calls[i]);
        print("in multicall", number, counts.subcalls[i]);
    }
    printf("}\n");
    return 0;
}

const struct command XEN_COMMANDS[] = {
    {"xen-trace", 2, 2, run_xen_trace, "FILE DOMAIN: count a domain's entries into Xen"},
    {NULL, 0, 0, NULL, NULL},
};
