/* vbench-probe in dom0: counts what Xen's trace holds of one domain (xentrace(8),
 * xen/public/trace.h), since a tenth of a second of a busy domain is megabytes of it; and tells
 * domains' CPU time, which xl(1) rounds to a tenth of a second.
 */
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define LOST_RECORDS 0x0001f001u
#define CPU_CHANGE 0x0001f003u   /* what follows is another CPU's; written by xentrace */
#define SCHED_SWITCH 0x0002800au /* previous domain, its vCPU, next domain, its vCPU */
#define PV_CLASS 0x00201000u     /* TRC_PV_ENTRY */
#define PV_SUBCALL 0x0020200eu   /* a call inside a multicall */
#define BITS_64 0x100u           /* the same event of a 64-bit domain */
#define PV_HYPERCALL 13
#define HVM_EXIT 0x00081002u /* TRC_HVM_VMEXIT: the processor's reason comes first */
#define REASONS 0x410u
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
    uint64_t events[16], calls[CALLS], subcalls[CALLS], exits[REASONS], lost;
};

static void count(struct counts *counts, uint32_t event, const uint32_t *extra, unsigned words)
{
    event &= ~BITS_64;
    if (event == PV_SUBCALL && words)
        counts->subcalls[(extra[0] & NUMBER) % CALLS]++;
    else if (event == PV_CLASS + PV_HYPERCALL && words)
        counts->calls[(extra[0] & NUMBER) % CALLS]++;
    else if (event == HVM_EXIT && words)
        counts->exits[extra[0] % REASONS]++;
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
    for (unsigned i = 0; i < REASONS; i++) {
        char number[8];
        snprintf(number, sizeof number, " %u", i);
        print("exit", number, counts.exits[i]);
    }
    printf("}\n");
    return 0;
}

/* ---------------------------------------------------------------- CPU time */

#define HYPERVISOR_DOMCTL 36
#define GETDOMAININFO 5
/* Of xen/public/domctl.h: from Xen 4.3, when cpu_ns got its place, to what is yet to come. */
#define OLDEST_DOMCTL 0x09u
#define NEWEST_DOMCTL 0x2fu

struct domctl {
    uint32_t command, version;
    uint16_t domain, pad[3];
    struct {
        uint16_t domain, pad;
        uint32_t flags;
        uint64_t pages[6], cpu_ns;
    } info;
    uint8_t rest[512];
};

/* Xen takes the version of its own tools only, so each is tried. It writes to `call`, which must
 * be in memory. */
static uint64_t cpu_ns(int file, struct domctl *call, uint16_t domain)
{
    struct privcmd_hypercall hypercall = {.op = HYPERVISOR_DOMCTL, .arg = {(uintptr_t)call}};
    for (uint32_t version = OLDEST_DOMCTL; version <= NEWEST_DOMCTL; version++) {
        memset(call, 0, sizeof *call);
        call->command = GETDOMAININFO;
        call->version = version;
        call->domain = domain;
        int done = ioctl(file, IOCTL_PRIVCMD_HYPERCALL, &hypercall) == 0;
        if (done && call->info.domain == domain)
            return call->info.cpu_ns;
        if (done || errno == ESRCH) /* before Xen 4.18 the next domain that there is */
            die("there is no domain %u", domain);
        if (errno != EACCES)
            break;
    }
    unsupported("Xen does not tell the CPU time of a domain: %s", strerror(errno));
}

static int run_xen_cpu(char **arguments)
{
    uint64_t domain;
    if (!number(arguments[0], 0, 0x7fef, &domain))
        return 2;
    int file = open("/dev/xen/privcmd", O_RDWR);
    if (file < 0)
        unsupported("/dev/xen/privcmd: %s", strerror(errno));
    struct domctl *call = map_memory(PAGE, 0);
    if (mlock(call, PAGE) != 0)
        die("mlock: %s", strerror(errno));
    printf("{\"cpu_ns\": %llu, ", (unsigned long long)cpu_ns(file, call, (uint16_t)domain));
    printf("\"dom0_ns\": %llu}\n", (unsigned long long)cpu_ns(file, call, 0));
    return 0;
}

const struct command XEN_COMMANDS[] = {
    {"xen-cpu", 1, 1, run_xen_cpu, "DOMAIN: CPU time of a domain and of dom0"},
    {"xen-trace", 2, 2, run_xen_trace, "FILE DOMAIN: count a domain's entries into Xen"},
    {NULL, 0, 0, NULL, NULL},
};
