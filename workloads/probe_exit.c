/* vbench-probe: what makes a guest leave for its hypervisor, one event at a time.
 *
 * Every sample includes one reading of the clock, and most include a system call that brings the
 * event about: `empty`, `syscall` and a `read` of /dev/zero are what to take off.
 */
#include "probe.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

/* Time `count` units one by one; `prepare`, if any, runs before each and is not in its sample. */
static int sampled(const char *text, void (*prepare)(void), void (*unit)(void))
{
    uint64_t count;
    if (!number(text, 1, MAX_SAMPLES, &count))
        return 2;
    uint64_t *samples = sample_buffer(count);
    uint64_t start = now_ns(), ticks = __rdtsc();
    for (uint64_t i = 0; i < count; i++) {
        if (prepare)
            prepare();
        uint64_t before = now_ns();
        unit();
        samples[i] = now_ns() - before;
    }
    print_distribution(&(struct distribution){
        samples, count, 1, 0, now_ns() - start, __rdtsc() - ticks});
    return 0;
}

static void unit_empty(void) {}

static int run_empty(char **arguments) { return sampled(arguments[0], NULL, unit_empty); }

static void unit_syscall(void) { syscall(SYS_getppid); }

static int run_syscall(char **arguments) { return sampled(arguments[0], NULL, unit_syscall); }

static void unit_cpuid(void)
{
    unsigned a, b, c, d;
    __cpuid(0, a, b, c, d); /* leaves every guest: the cheapest exit of hardware virtualization */
}

static int run_cpuid(char **arguments) { return sampled(arguments[0], NULL, unit_cpuid); }

/* ---------------------------------------------------------------- files that stand for devices */

static int file;
static off_t position;
static size_t width;
static uint64_t value;

/* Port and MSR are offsets of /dev/port and /dev/cpu/0/msr: a kernel that reads them for us
 * needs no code of ours in it. User-space IN and OUT (iopl) are refused by too many kernels. */
static void open_device(char **arguments, int flags)
{
    cpu_set_t first;
    CPU_ZERO(&first); /* /dev/cpu/0/msr is that CPU's own: from another one it would be an IPI */
    CPU_SET(0, &first);
    sched_setaffinity(0, sizeof first, &first);
    file = open_no_atime(arguments[1], flags);
    if (file < 0)
        unsupported("%s: %s", arguments[1], strerror(errno));
    if (pread(file, &value, width, position) != (ssize_t)width)
        unsupported("%s at %#jx: %s", arguments[1], (intmax_t)position, strerror(errno));
}

static int device_arguments(char **arguments)
{
    uint64_t offset, bytes;
    if (!number(arguments[2], 0, UINT32_MAX, &offset) || !number(arguments[3], 1, 8, &bytes))
        return 0;
    position = (off_t)offset;
    width = bytes;
    return 1;
}

static void unit_read(void)
{
    if (pread(file, &value, width, position) != (ssize_t)width)
        die("read: %s", strerror(errno));
}

static int run_read(char **arguments)
{
    if (!device_arguments(arguments))
        return 2;
    open_device(arguments, O_RDONLY);
    return sampled(arguments[0], NULL, unit_read);
}

static void unit_write(void)
{
    if (pwrite(file, &value, width, position) != (ssize_t)width)
        die("write: %s", strerror(errno));
}

/* Writes what is there already: nothing changes. */
static int run_rewrite(char **arguments)
{
    if (!device_arguments(arguments))
        return 2;
    open_device(arguments, O_RDWR);
    if (pwrite(file, &value, width, position) != (ssize_t)width)
        unsupported("%s at %#jx cannot be written: %s", arguments[1], (intmax_t)position,
                    strerror(errno));
    return sampled(arguments[0], NULL, unit_write);
}

static volatile uint32_t *registers;

static void unit_mmio(void) { (void)*registers; }

static int run_mmio(char **arguments)
{
    uint64_t offset;
    if (!number(arguments[2], 0, PAGE - 4, &offset) || offset % 4)
        return 2;
    file = open(arguments[1], O_RDONLY);
    if (file < 0)
        unsupported("%s: %s", arguments[1], strerror(errno));
    char *mapped = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, file, 0);
    if (mapped == MAP_FAILED)
        unsupported("%s cannot be mapped: %s", arguments[1], strerror(errno));
    registers = (volatile uint32_t *)(mapped + offset);
    unit_mmio(); /* brings the page table entry */
    return sampled(arguments[0], NULL, unit_mmio);
}

/* ---------------------------------------------------------------- hypercall */

#define HYPERVISOR_XEN_VERSION 17

static sigjmp_buf refused;

static void on_fault(int number) { siglongjmp(refused, number); }

/* From user space the hypercall instruction leaves the guest as it does from the kernel; KVM
 * answers "not permitted" (its hypercalls are for ring 0), which is all that is timed. */
static void unit_vmcall(void)
{
    long result = 1000; /* a number that KVM does not know */
    __asm__ volatile("vmcall" : "+a"(result) : : "memory");
}

static void unit_vmmcall(void)
{
    long result = 1000;
    __asm__ volatile("vmmcall" : "+a"(result) : : "memory");
}

static void unit_xen(void)
{
    struct privcmd_hypercall call = {.op = HYPERVISOR_XEN_VERSION};
    if (ioctl(file, IOCTL_PRIVCMD_HYPERCALL, &call) < 0)
        die("hypercall: %s", strerror(errno));
}

/* All of the way through the kernel but the hypercall: the driver knows no such request. */
static void unit_xen_refused(void)
{
    if (ioctl(file, _IO('P', 0x7f)) == 0)
        die("an unknown request was accepted");
}

/* The control of `hypercall`. */
static int run_uncalled(char **arguments)
{
    file = open("/dev/xen/privcmd", O_RDWR);
    return sampled(arguments[0], NULL, file >= 0 ? unit_xen_refused : unit_empty);
}

static int run_hypercall(char **arguments)
{
    unsigned a, vendor, c, d;
    file = open("/dev/xen/privcmd", O_RDWR);
    if (file >= 0)
        return sampled(arguments[0], NULL, unit_xen);
    __cpuid(0, a, vendor, c, d);
    void (*unit)(void) = vendor == signature_INTEL_ebx ? unit_vmcall : unit_vmmcall;
    signal(SIGILL, on_fault);
    signal(SIGSEGV, on_fault);
    if (sigsetjmp(refused, 1) != 0)
        unsupported("no hypervisor answers a hypercall here");
    unit();
    return sampled(arguments[0], NULL, unit);
}

/* ---------------------------------------------------------------- interrupts */

#define ARMED_NS 20000    /* until the timer's interrupt */
#define WATCHED_NS 200000 /* beyond that, until it has come: it may be late */

/* The gap that a timer's interrupt tears into a program that does nothing but read the clock. */
static int run_tick(char **arguments)
{
    uint64_t count;
    if (!number(arguments[0], 1, MAX_SAMPLES, &count))
        return 2;
    uint64_t *gaps = sample_buffer(count);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK); /* nobody waits: no wake-up */
    if (timer < 0)
        die("timerfd: %s", strerror(errno));
    uint64_t start = now_ns(), ticks = __rdtsc();
    for (uint64_t i = 0; i < count; i++) {
        struct itimerspec soon = {.it_value = {0, ARMED_NS}};
        timerfd_settime(timer, 0, &soon, NULL);
        uint64_t last = now_ns(), end = last + ARMED_NS + WATCHED_NS, widest = 0;
        uint64_t expired;
        do {
            while (last < end) {
                uint64_t now = now_ns();
                if (now - last > widest)
                    widest = now - last;
                last = now;
            }
            if (read(timer, &expired, sizeof expired) == sizeof expired)
                break;
            last = now_ns(); /* asking was no interrupt's doing */
            end = last + WATCHED_NS;
        } while (1);
        gaps[i] = widest;
    }
    print_distribution(&(struct distribution){
        gaps, count, 1, 0, now_ns() - start, __rdtsc() - ticks});
    return 0;
}

static volatile int partner_runs, partner_stops;

static void *partner(void *cpu)
{
    if (sched_setaffinity(0, sizeof(cpu_set_t), cpu) != 0)
        die("the second CPU cannot be used: %s", strerror(errno));
    partner_runs = 1;
    while (!partner_stops)
        ; /* no PAUSE: that may be an exit of its own */
    return NULL;
}

static void unit_ipi(void)
{
    if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) != 0)
        die("membarrier: %s", strerror(errno));
}

/* membarrier(2) interrupts the CPUs that run our other threads, and waits for their answers. */
static int run_ipi(char **arguments)
{
    cpu_set_t allowed, ours, theirs;
    pthread_t thread;
    int found = 0;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        die("sched_getaffinity: %s", strerror(errno));
    CPU_ZERO(&ours);
    CPU_ZERO(&theirs);
    for (int cpu = 0; cpu < CPU_SETSIZE && found < 2; cpu++)
        if (CPU_ISSET(cpu, &allowed))
            CPU_SET(cpu, found++ == 0 ? &ours : &theirs);
    if (found < 2)
        unsupported("an interprocessor interrupt needs two CPUs, and there is one");
    if (syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) != 0)
        unsupported("membarrier: %s", strerror(errno));
    sched_setaffinity(0, sizeof ours, &ours);
    if (pthread_create(&thread, NULL, partner, &theirs) != 0)
        die("no thread");
    while (!partner_runs)
        sched_yield();
    int status = sampled(arguments[0], NULL, unit_ipi);
    partner_stops = 1;
    pthread_join(thread, NULL);
    return status;
}

/* ---------------------------------------------------------------- page faults */

static volatile char *memory;
static size_t touched = CHUNK;

static void prepare_touch(void)
{
    if (touched == CHUNK) {
        if (memory)
            munmap((void *)memory, CHUNK);
        memory = map_memory(CHUNK, MADV_NOHUGEPAGE);
        touched = 0;
    }
}

static void unit_touch(void)
{
    memory[touched] = 1;
    touched += PAGE;
}

static int run_touch(char **arguments) { return sampled(arguments[0], prepare_touch, unit_touch); }

const struct command EXIT_COMMANDS[] = {
    {"empty", 1, 1, run_empty, "N: nothing, one by one: the clock's own cost"},
    {"syscall", 1, 1, run_syscall, "N: system calls, one by one"},
    {"cpuid", 1, 1, run_cpuid, "N: CPUID instructions, one by one"},
    {"read", 4, 4, run_read, "N FILE OFFSET WIDTH: reads of a device file (/dev/port)"},
    {"rewrite", 4, 4, run_rewrite, "N FILE OFFSET WIDTH: writes of what is there"},
    {"mmio", 3, 3, run_mmio, "N FILE OFFSET: loads from a mapped device register"},
    {"hypercall", 1, 1, run_hypercall, "N: calls of the hypervisor that do nothing"},
    {"uncalled", 1, 1, run_uncalled, "N: the same without the call"},
    {"tick", 1, 1, run_tick, "N: gaps torn by timer interrupts"},
    {"ipi", 1, 1, run_ipi, "N: interrupts of another CPU and its answer"},
    {"touch", 1, 1, run_touch, "N: first touches of 4 KiB pages, one by one"},
    {NULL, 0, 0, NULL, NULL},
};
