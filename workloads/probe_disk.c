/* vbench-probe: direct I/O, with a fixed number of requests outstanding (io_submit(2)). */
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_DEPTH 256

static aio_context_t context;
static struct iocb requests[MAX_DEPTH];
static uint64_t begin, blocks, block_bytes, next_block, random_state = 88172645463325252u;
static int in_random_order;

static void submit(struct iocb *request)
{
    if (in_random_order) {
        random_state ^= random_state << 13;
        random_state ^= random_state >> 7;
        random_state ^= random_state << 17;
        next_block = random_state % blocks;
    }
    request->aio_offset = (int64_t)(begin + next_block * block_bytes);
    next_block = (next_block + 1) % blocks;
    if (syscall(SYS_io_submit, context, 1, &request) != 1)
        die("io_submit: %s", strerror(errno));
}

static struct iocb *completed(void)
{
    struct io_event event;
    if (syscall(SYS_io_getevents, context, 1, 1, &event, NULL) != 1)
        die("io_getevents: %s", strerror(errno));
    if (event.res < 0)
        die("input or output: %s", strerror((int)-event.res));
    if ((uint64_t)event.res != block_bytes)
        die("%lld bytes of a block of %llu", event.res, (unsigned long long)block_bytes);
    return (struct iocb *)(uintptr_t)event.data;
}

static struct iocb *idle; /* the one request that is not outstanding */

static void run_operations(uint64_t operations)
{
    for (uint64_t i = 0; i < operations; i++) {
        submit(idle);
        idle = completed();
    }
}

static int run_disk(char **arguments)
{
    static const char *const PATTERNS[] = {"read", "write", "randread", "randwrite"};
    uint64_t offset_mib, size_mib, block_kib, depth, pattern = 0;
    while (pattern < 4 && strcmp(arguments[3], PATTERNS[pattern]) != 0)
        pattern++;
    if (pattern == 4 || !number(arguments[1], 0, 1 << 30, &offset_mib) ||
        !number(arguments[2], 1, 1 << 30, &size_mib) ||
        !number(arguments[4], 4, 1024, &block_kib) ||
        !number(arguments[5], 1, MAX_DEPTH, &depth))
        return 2;
    begin = offset_mib << 20;
    block_bytes = block_kib << 10;
    blocks = (size_mib << 20) / block_bytes;
    in_random_order = pattern >= 2;
    int writes = pattern % 2;
    int file = open_no_atime(arguments[0], (writes ? O_RDWR : O_RDONLY) | O_DIRECT);
    if (file < 0)
        die("%s cannot be opened for direct I/O: %s", arguments[0], strerror(errno));
    if (syscall(SYS_io_setup, depth, &context) != 0)
        die("io_setup: %s", strerror(errno));
    char *buffers = map_memory(depth * block_bytes, MADV_NOHUGEPAGE);
    for (uint64_t i = 0; i < depth * block_bytes; i++) /* nothing that a device could shorten */
        buffers[i] = (char)((i * 6364136223846793005u + 1442695040888963407u) >> 56);
    for (uint64_t i = 0; i < depth; i++)
        requests[i] = (struct iocb){
            .aio_data = (uintptr_t)&requests[i],
            .aio_lio_opcode = writes ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
            .aio_fildes = (uint32_t)file,
            .aio_buf = (uintptr_t)(buffers + i * block_bytes),
            .aio_nbytes = block_bytes,
        };
    idle = &requests[0];
    for (uint64_t i = 1; i < depth; i++)
        submit(&requests[i]);
    int wrong = timed_groups(arguments[6], depth, run_operations);
    for (uint64_t i = 1; i < depth; i++)
        completed();
    return wrong;
}

const struct command DISK_COMMANDS[] = {
    {"disk", 7, 7, run_disk,
     "FILE OFFSET_MIB SIZE_MIB PATTERN BLOCK_KIB DEPTH N: operations of direct I/O\n"
     "                 (PATTERN: read, write, randread, randwrite)"},
    {NULL, 0, 0, NULL, NULL},
};
