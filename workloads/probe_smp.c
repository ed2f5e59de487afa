/* vbench-probe: several CPUs that wake, wait for, interrupt and help each other.
 *
 * One thread is pinned to each CPU that we may use; the first one measures.
 */
#include "probe.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST_CPUS 256
#define MESSAGE 100      /* bytes, as hackbench's */
#define SENDERS 4        /* and as many receivers; each sender writes to each receiver */

static int cpus[MOST_CPUS], cpu_count;
static pthread_t threads[MOST_CPUS];
static atomic_int running, stopping;

static void pin(int cpu)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    if (sched_setaffinity(0, sizeof one, &one) != 0)
        die("CPU %d cannot be used: %s", cpu, strerror(errno));
}

static void find_cpus(void)
{
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        die("sched_getaffinity: %s", strerror(errno));
    for (int cpu = 0; cpu < CPU_SETSIZE && cpu_count < MOST_CPUS; cpu++)
        if (CPU_ISSET(cpu, &allowed))
            cpus[cpu_count++] = cpu;
    if (cpu_count < 2)
        unsupported("this needs two CPUs, and there is one");
}

/* Run `partner` on `count` CPUs beside the first, time groups on the first, and end the partners. */
static int beside(const char *text, uint64_t size, int count, void *(*partner)(void *),
                  void (*run)(uint64_t), void (*stop)(void))
{
    pin(cpus[0]);
    for (int i = 1; i <= count; i++)
        if (pthread_create(&threads[i], NULL, partner, &cpus[i]) != 0)
            die("no thread");
    while (running < count)
        sched_yield();
    int status = timed_groups(text, size, run);
    stopping = 1;
    if (stop)
        stop();
    for (int i = 1; i <= count; i++)
        pthread_join(threads[i], NULL);
    return status;
}

/* ---------------------------------------------------------------- wake-ups */

enum { OURS, THEIRS };
static _Atomic uint32_t turn;

static void pass_to(uint32_t whose)
{
    turn = whose;
    syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void wait_for(uint32_t whose)
{
    uint32_t now;
    while ((now = turn) != whose && !stopping)
        syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, now, NULL, NULL, 0);
}

static void *answer(void *cpu)
{
    pin(*(int *)cpu);
    running++;
    for (;;) {
        wait_for(THEIRS);
        if (stopping)
            return NULL;
        pass_to(OURS);
    }
}

static void run_trips(uint64_t trips)
{
    for (; trips > 0; trips--) {
        pass_to(THEIRS);
        wait_for(OURS);
    }
}

static void end_trips(void) { pass_to(THEIRS); }

static int run_wakeup(char **arguments)
{
    find_cpus();
    return beside(arguments[0], 10, 1, answer, run_trips, end_trips);
}

/* ---------------------------------------------------------------- a lock that all want */

/* First come, first served, as the kernel's own: a vCPU that holds it, or is next, and has no CPU
 * keeps all others waiting. PAUSE is what hypervisors look at to notice that. */
static _Atomic uint32_t next_ticket, now_serving;

static void take_lock(void)
{
    uint32_t ticket = atomic_fetch_add(&next_ticket, 1);
    while (now_serving != ticket)
        _mm_pause();
}

static void give_lock(void) { now_serving++; }

static void *contend(void *cpu)
{
    pin(*(int *)cpu);
    running++;
    while (!stopping) {
        take_lock();
        give_lock();
    }
    return NULL;
}

static void run_turns(uint64_t turns)
{
    for (; turns > 0; turns--) {
        take_lock();
        give_lock();
    }
}

static int run_lock(char **arguments)
{
    find_cpus();
    return beside(arguments[0], 100, cpu_count - 1, contend, run_turns, NULL);
}

/* ---------------------------------------------------------------- page tables that all share */

static volatile char *page;

static void *look(void *cpu)
{
    pin(*(int *)cpu);
    running++;
    while (!stopping)
        KEEP((char){page[0]}); /* the translation is in this CPU's buffer */
    return NULL;
}

/* Taking the right to write away: every CPU that runs one of our threads must forget it. */
static void run_protections(uint64_t count)
{
    for (; count > 0; count--) {
        page[0] = 1;
        if (mprotect((void *)page, PAGE, PROT_READ) != 0 ||
            mprotect((void *)page, PAGE, PROT_READ | PROT_WRITE) != 0)
            die("mprotect: %s", strerror(errno));
    }
}

static int run_shootdown(char **arguments)
{
    find_cpus();
    page = backed_memory(PAGE, MADV_NOHUGEPAGE);
    return beside(arguments[0], 10, cpu_count - 1, look, run_protections, NULL);
}

/* ---------------------------------------------------------------- work that all share */

static _Atomic uint64_t generation, finished, share;

static void compute(uint64_t steps)
{
    uint64_t value = 1;
    for (; steps > 0; steps--) {
        value = value * 6364136223846793005u + 1442695040888963407u;
        KEEP(value);
    }
}

static void *help(void *cpu)
{
    uint64_t known = 0;
    pin(*(int *)cpu);
    running++;
    for (;;) {
        while (generation == known && !stopping)
            _mm_pause();
        if (stopping)
            return NULL;
        known++;
        compute(share);
        finished++;
    }
}

/* A loop whose steps are dealt out to all CPUs; it ends when the last one has done its share. */
static void run_shared(uint64_t steps)
{
    share = steps / (uint64_t)cpu_count;
    finished = 0;
    generation++;
    compute(share);
    while (finished < (uint64_t)cpu_count - 1)
        _mm_pause();
}

static int run_parallel(char **arguments)
{
    find_cpus();
    return beside(arguments[0], 100000, cpu_count - 1, help, run_shared, NULL);
}

/* ---------------------------------------------------------------- many processes that talk */

static void receive(int from, uint64_t messages)
{
    char message[MESSAGE];
    for (uint64_t left = messages * MESSAGE; left > 0;) {
        ssize_t got = read(from, message, left < MESSAGE ? left : MESSAGE);
        if (got <= 0)
            die("a message is lost: %s", got < 0 ? strerror(errno) : "the sender has ended");
        left -= (uint64_t)got;
    }
}

static void send_to_all(int to[], uint64_t messages)
{
    char message[MESSAGE] = {0};
    for (; messages > 0; messages--)
        for (int i = 0; i < SENDERS; i++)
            if (write(to[i], message, MESSAGE) != MESSAGE)
                die("a message cannot be sent: %s", strerror(errno));
}

static void close_all(const int ends[])
{
    for (int i = 0; i < SENDERS; i++)
        close(ends[i]);
}

/* As hackbench does it: senders and receivers, all processes, all on any CPU. The scheduler wakes,
 * moves and balances them. */
static int run_messages(char **arguments)
{
    uint64_t units, each, began;
    int to[SENDERS], from[SENDERS], start[2], status, bad = 0;
    char go = 0;
    if (!number(arguments[0], 1, MAX_SAMPLES * 100, &units))
        return 2;
    find_cpus();
    each = (units + SENDERS * SENDERS - 1) / (SENDERS * SENDERS); /* of a sender to a receiver */
    if (pipe(start) != 0)
        die("pipe: %s", strerror(errno));
    for (int i = 0; i < SENDERS; i++) {
        int ends[2];
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0)
            die("socketpair: %s", strerror(errno));
        to[i] = ends[0];
        from[i] = ends[1];
    }
    for (int i = 0; i < 2 * SENDERS; i++) {
        pid_t child = fork();
        if (child < 0)
            die("fork: %s", strerror(errno));
        if (child > 0)
            continue;
        close(start[1]);
        if (i >= SENDERS) /* a receiver sees the end of the last sender */
            close_all(to);
        if (read(start[0], &go, 1) != 0) /* its end is the start */
            die("no start: %s", strerror(errno));
        if (i < SENDERS)
            send_to_all(to, each);
        else
            receive(from[i - SENDERS], each * SENDERS);
        _exit(0);
    }
    close_all(to);
    began = now_ns();
    close(start[1]);
    for (int i = 0; i < 2 * SENDERS; i++)
        bad |= wait(&status) < 0 || status != 0;
    if (bad)
        die("a process failed");
    printf("{\"elapsed_ns\": %" PRIu64 ", \"units\": %" PRIu64 "}\n", now_ns() - began,
           each * SENDERS * SENDERS);
    return 0;
}

const struct command SMP_COMMANDS[] = {
    {"wakeup", 1, 1, run_wakeup, "N: a thread on another CPU is woken, and wakes us"},
    {"lock", 1, 1, run_lock, "N: takes of a lock that a thread on every CPU wants"},
    {"shootdown", 1, 1, run_shootdown, "N: rights to a page taken away on every CPU, and given"},
    {"parallel", 1, 1, run_parallel, "N: steps of a loop, dealt out to all CPUs"},
    {"messages", 1, 1, run_messages, "N: messages between four senders and four receivers"},
    {NULL, 0, 0, NULL, NULL},
};
