/* vbench-probe: computing, system calls, context switches and timers.
 *
 * A group holds some 10,000 to 150,000 instructions: enough that reading the clock is nothing, and
 * few against the 4 ms between two ticks of the kernel's clock, so that most groups are clean.
 */
#include "probe.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TIMER_INTERVAL_US 200

/* ---------------------------------------------------------------- computing */

#define LAST_CANDIDATE 2000

/* An event is all primes below 2,000 by trial division, as sysbench's test of the CPU finds them. */
void prime_events(uint64_t events)
{
    for (uint64_t i = 0; i < events; i++) {
        uint64_t primes = 1;
        for (uint64_t candidate = 3; candidate <= LAST_CANDIDATE; candidate++) {
            uint64_t divisor = 2;
            while (divisor * divisor <= candidate && candidate % divisor)
                divisor++;
            primes += divisor * divisor > candidate;
        }
        KEEP(primes);
    }
}

static int run_prime(char **arguments)
{
    return timed_groups(arguments[0], 1, prime_events);
}

static uint64_t slow_percent;

static void run_steps(uint64_t steps)
{
    uint64_t value = 1;
    for (uint64_t left = steps + steps * slow_percent / 100; left > 0; left--) {
        value = value * 6364136223846793005u + 1442695040888963407u;
        KEEP(value); /* keeps the compiler from combining steps */
    }
}

/* The positive control: a slowdown of known size that the statistics must find. */
static int run_spin(char **arguments)
{
    if (arguments[1] && (strcmp(arguments[1], "--slow-percent") != 0 || !arguments[2] ||
                         !number(arguments[2], 0, 10000, &slow_percent)))
        return 2;
    return timed_groups(arguments[0], 10000, run_steps);
}

/* ---------------------------------------------------------------- the kernel */

static void run_calls(uint64_t calls)
{
    for (uint64_t i = 0; i < calls; i++)
        syscall(SYS_getppid); /* not getppid(): no libc may cache or shorten it */
}

static int run_getppid(char **arguments)
{
    return timed_groups(arguments[0], 100, run_calls);
}

static int there[2], back[2];

/* One process writes, the other answers: a round trip is two switches on their common CPU. */
static void run_trips(uint64_t trips)
{
    char byte = 0;
    for (uint64_t i = 0; i < trips; i++)
        if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1)
            die("a pipe broke");
}

/* Until the other process has closed its end. */
__attribute__((noreturn)) static void answer(void)
{
    char byte;
    close(there[1]);
    while (read(there[0], &byte, 1) == 1)
        if (write(back[1], &byte, 1) != 1)
            _exit(1);
    _exit(0);
}

static int run_switch(char **arguments)
{
    int status;
    cpu_set_t cpus;
    int cpu = sched_getcpu();
    CPU_ZERO(&cpus);
    CPU_SET(cpu < 0 ? 0 : cpu, &cpus);
    if (sched_setaffinity(0, sizeof cpus, &cpus) != 0)
        die("cannot stay on CPU %d: %s", cpu, strerror(errno));
    no_preemption_at_wakeup();
    if (pipe(there) != 0 || pipe(back) != 0)
        die("pipe: %s", strerror(errno));
    pid_t child = fork();
    if (child < 0)
        die("fork: %s", strerror(errno));
    if (child == 0)
        answer();
    run_trips(1); /* the child runs now: its start is not measured */
    int wrong = timed_groups(arguments[0], 10, run_trips);
    close(there[1]);
    if (waitpid(child, &status, 0) != child || status != 0)
        die("the other process failed");
    return wrong;
}

/* ---------------------------------------------------------------- timers */

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
    print_distribution(&(struct distribution){
        late, count, 1, 0, now_ns() - start, __rdtsc() - ticks});
    return 0;
}

const struct command CPU_COMMANDS[] = {
    {"prime", 1, 1, run_prime, "N: times all primes below 2,000"},
    {"spin", 1, 3, run_spin, "N [--slow-percent P]: integer steps, P % more of them"},
    {"getppid", 1, 1, run_getppid, "N: system calls"},
    {"switch", 1, 1, run_switch, "N: round trips between two processes on one CPU"},
    {"timer", 1, 2, run_timer, "N [US]: lateness of sleeps that end every US (200) us"},
    {NULL, 0, 0, NULL, NULL},
};
