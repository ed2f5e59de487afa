/* vbench-probe: streaming and random loads, and pages that are touched for the first time. */
#include "probe.h"

#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define MIB (1u << 20)
#define HUGE_PAGE (2u << 20)

/* ---------------------------------------------------------------- loads */

static uint64_t *words;

/* A unit is a MiB, read in order, 64 bytes at a time. */
static void run_stream(uint64_t mebibytes)
{
    for (uint64_t i = 0; i < mebibytes; i++) {
        uint64_t sum = 0;
        for (const uint64_t *word = words; word < words + MIB / sizeof *words; word += 8)
            sum += word[0] + word[1] + word[2] + word[3] + word[4] + word[5] + word[6] + word[7];
        KEEP(sum);
    }
}

static int run_memread(char **arguments)
{
    words = map_memory(MIB, MADV_NOHUGEPAGE);
    memset(words, 1, MIB);
    return timed_groups(arguments[0], 1, run_stream);
}

static struct line { /* of the cache */
    struct line *next;
    char padding[56];
} *line;

static void run_loads(uint64_t loads)
{
    for (uint64_t i = 0; i < loads; i++)
        line = line->next; /* each load needs the one before: latency, not bandwidth */
    KEEP(line);
}

static int run_memrandom(char **arguments)
{
    uint64_t random = 88172645463325252u;
    if (arguments[1] && strcmp(arguments[1], "--huge") != 0)
        return 2;
    struct line *lines = backed_memory(CHUNK, arguments[1] ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
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
    line = lines;
    return timed_groups(arguments[0], 2000, run_loads);
}

/* ---------------------------------------------------------------- first touches */

/* A multiple of the 15 pages that the kernel adds to its lists at a time, and few enough that
 * they come from the free list of the CPU: then each group takes the same way. */
#define GROUP_PAGES 60

static volatile char *pages;

static void touch(uint64_t count)
{
    for (uint64_t page = 0; page < count; page++)
        pages[page * PAGE] = 1;
}

/* Giving the pages back is part of the unit: what is counted of the guest from outside cannot
 * leave it out either. */
static void run_faults(uint64_t count)
{
    touch(count);
    if (madvise((void *)pages, count * PAGE, MADV_DONTNEED) != 0)
        die("madvise cannot give pages back");
}

static void run_cold_faults(uint64_t count)
{
    touch(count);
    pages += count * PAGE;
}

static char *aligned_memory(uint64_t huge_pages)
{
    char *memory = map_memory((huge_pages + 1) * HUGE_PAGE, MADV_NOHUGEPAGE);
    return memory + (-(uintptr_t)memory & (HUGE_PAGE - 1));
}

static uint64_t minor_faults(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)usage.ru_minflt;
}

static int faulting(const char *text, uint64_t count, uint64_t size, void (*run)(uint64_t))
{
    uint64_t before = minor_faults();
    int wrong = timed_groups(text, size, run);
    /* Huge pages or prefaulting would make this another experiment. Some faults of our own
     * (stack, libc, samples) count only when N is tiny; up to a group comes from rounding up. */
    uint64_t faults = minor_faults() - before, tolerated = count / 50 + 2 * size + 20;
    if (faults < count || faults > count + tolerated)
        die("%" PRIu64 " pages touched, but %" PRIu64 " minor faults", count, faults);
    return wrong;
}

static int run_pagefault(char **arguments)
{
    uint64_t count;
    if (!number(arguments[0], 1, MAX_SAMPLES, &count))
        return 2;
    pages = aligned_memory(1);
    run_faults(GROUP_PAGES); /* brings the page table */
    return faulting(arguments[0], count, GROUP_PAGES, run_faults);
}

/* Memory that the host may not have given the guest yet: nothing is given back before the end, so
 * each group comes from another place of the guest's memory. */
static int run_pagefault_cold(char **arguments)
{
    uint64_t count;
    if (!number(arguments[0], 1, 1 << 20, &count))
        return 2;
    pages = aligned_memory(count * PAGE / HUGE_PAGE + 2); /* a group not whole, one for the clock */
    return faulting(arguments[0], count, HUGE_PAGE / PAGE, run_cold_faults);
}

const struct command MEMORY_COMMANDS[] = {
    {"memread", 1, 1, run_memread, "N: MiB read in order, the same one again and again"},
    {"memrandom", 1, 2, run_memrandom, "N [--huge]: dependent loads over 64 MiB"},
    {"pagefault", 1, 1, run_pagefault, "N: 4 KiB pages touched and given back"},
    {"pagefault-cold", 1, 1, run_pagefault_cold, "N: first touches of 4 KiB pages, none given back"},
    {NULL, 0, 0, NULL, NULL},
};
