/* vbench-probe: several CPUs that wake, wait for, interrupt and help each other.
 *
 * There are as many threads as the guest has vCPUs, in the guest and natively; the first one
 * measures. Where there are as many CPUs each thread is pinned to one. Else they go where the
 * scheduler puts them, as the threads of vCPUs do that nobody pins.
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
#define SPINS 1000       /* some ten microseconds */
#define SENDERS 4        /* and as many receivers; each sender writes to each receiver */

static int cpus[MOST_CPUS], cpu_count, thread_count;
static pthread_t threads[MOST_CPUS];
static atomic_int running, stopping;

/* We, and what we start, may use the CPUs from the `first` one that we have. */
static void stay_on(int first, int count)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    for (int i = first; i < first + count; i++)
        CPU_SET(cpus[i], &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0)
        die("CPU %d cannot be used: %s", cpus[first], strerror(errno));
}

/* Where thread `i` belongs. */
static void settle(int i)
{
    if (thread_count == cpu_count)
        stay_on(i, 1);
}

/* The CPUs that we may use, at least two, and how many threads `text` asks for. Returns 0 if it is
 * no such number. */
static int find_cpus(const char *text)
{
    uint64_t wanted;
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        die("sched_getaffinity: %s", strerror(errno));
    for (int cpu = 0; cpu < CPU_SETSIZE && cpu_count < MOST_CPUS; cpu++)
        if (CPU_ISSET(cpu, &allowed))
            cpus[cpu_count++] = cpu;
    if (!number(text, 1, MOST_CPUS, &wanted))
        return 0;
    thread_count = (int)wanted;
    if (cpu_count < 2 && thread_count > 1)
        unsupported("this needs two CPUs, and there is one");
    return 1;
}

/* Run `count` threads of `partner` beside this one, time groups on this one, and end them. */
static int beside(const char *text, uint64_t size, int count, void *(*partner)(void *),
                  void (*run)(uint64_t), void (*stop)(void))
{
    settle(0);
    for (int i = 1; i <= count; i++)
        if (pthread_create(&threads[i], NULL, partner, (void *)(intptr_t)i) != 0)
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

/* Spin for a while, then let another thread have the CPU. In a guest that is one of the same
 * vCPU: a vCPU that has no CPU is not helped. PAUSE is what hypervisors look at to notice that. */
static void wait_while(_Atomic uint64_t *what, uint64_t value)
{
    for (int spins = 0; *what == value; spins++)
        if (spins < SPINS)
            _mm_pause();
        else
            sched_yield();
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

static void *answer(void *self)
{
    settle((int)(intptr_t)self);
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
    if (!find_cpus("2"))
        return 2;
    cpu_count = 2; /* on two CPUs, however many there are: that is what is measured */
    return beside(arguments[0], 10, 1, answer, run_trips, end_trips);
}

/* ---------------------------------------------------------------- a lock that all want */

/* First come, first served: a vCPU that holds it, or is next, and has no CPU keeps all others
 * waiting. */
static _Atomic uint64_t next_ticket, now_serving;

static void take_lock(void)
{
    uint64_t ticket = atomic_fetch_add(&next_ticket, 1), now;
    while ((now = now_serving) != ticket)
        wait_while(&now_serving, now);
}

static void give_lock(void) { now_serving++; }

static void *contend(void *self)
{
    settle((int)(intptr_t)self);
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
    return find_cpus(arguments[1])
               ? beside(arguments[0], 10, thread_count - 1, contend, run_turns, NULL)
               : 2;
}

/* ---------------------------------------------------------------- a lock of the kernel's */

/* The table of open files has a spinning lock. A kernel is not preempted while it holds one, but
 * the vCPU that it runs on may be. */
static void duplicate(void)
{
    int copy = dup(STDIN_FILENO);
    if (copy < 0 || close(copy) != 0)
        die("dup: %s", strerror(errno));
}

static void *duplicate_too(void *self)
{
    settle((int)(intptr_t)self);
    running++;
    while (!stopping)
        duplicate();
    return NULL;
}

static void run_duplicates(uint64_t count)
{
    for (; count > 0; count--)
        duplicate();
}

static int run_kernel_lock(char **arguments)
{
    return find_cpus(arguments[1]) ? beside(arguments[0], 100, thread_count - 1, duplicate_too,
                                            run_duplicates, NULL)
                                   : 2;
}

/* ---------------------------------------------------------------- page tables that all share */

static volatile char *page;

static void *look(void *self)
{
    settle((int)(intptr_t)self);
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
    if (!find_cpus(arguments[1]))
        return 2;
    page = backed_memory(PAGE, MADV_NOHUGEPAGE);
    return beside(arguments[0], 10, thread_count - 1, look, run_protections, NULL);
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

static void *help(void *self)
{
    uint64_t known = 0;
    settle((int)(intptr_t)self);
    running++;
    for (;;) {
        wait_while(&generation, known);
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
    share = steps / (uint64_t)thread_count;
    finished = 0;
    generation++;
    compute(share);
    for (uint64_t seen; (seen = finished) < (uint64_t)thread_count - 1;)
        wait_while(&finished, seen);
}

static void end_sharing(void) { generation++; }

static int run_parallel(char **arguments)
{
    return find_cpus(arguments[1]) ? beside(arguments[0], 100000, thread_count - 1, help,
                                            run_shared, end_sharing)
                                   : 2;
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
    if (!number(arguments[0], 1, MAX_SAMPLES * 100, &units) || !find_cpus(arguments[1]))
        return 2;
    stay_on(0, thread_count < cpu_count ? thread_count : cpu_count);
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
    {"lock", 2, 2, run_lock, "N THREADS: takes of a lock that all of them want"},
    {"kernel-lock", 2, 2, run_kernel_lock, "N THREADS: files opened, whose table all of them want"},
    {"shootdown", 2, 2, run_shootdown, "N THREADS: rights to a page taken away from all, and given"},
    {"parallel", 2, 2, run_parallel, "N THREADS: steps of a loop, dealt out to all of them"},
    {"messages", 2, 2, run_messages, "N CPUS: messages between four senders and four receivers"},
    {NULL, 0, 0, NULL, NULL},
};
