/* The time of a whole program, for those that do not say it themselves. */
#include "probe.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* From before it is started until it has ended: starting it is work that users wait for, too. */
static int run_timed(char **arguments)
{
    uint64_t units, began, elapsed_ns;
    int status;
    if (!number(arguments[0], 1, UINT64_MAX, &units))
        return 2;
    began = now_ns();
    pid_t child = fork();
    if (child < 0)
        die("fork: %s", strerror(errno));
    if (child == 0) {
        dup2(STDERR_FILENO, STDOUT_FILENO); /* ours has the result only */
        execvp(arguments[1], arguments + 1);
        fprintf(stderr, "vbench-probe: %s: %s\n", arguments[1], strerror(errno));
        _exit(127);
    }
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            die("waitpid: %s", strerror(errno));
    elapsed_ns = now_ns() - began;
    if (WIFSIGNALED(status))
        die("%s was ended by signal %d", arguments[1], WTERMSIG(status));
    if (WEXITSTATUS(status) != 0)
        die("%s ended with status %d", arguments[1], WEXITSTATUS(status));
    printf("{\"elapsed_ns\": %" PRIu64 ", \"units\": %" PRIu64 "}\n", elapsed_ns, units);
    return 0;
}

const struct command APP_COMMANDS[] = {
    {"timed", 2, INT_MAX, run_timed, "UNITS PROGRAM ARGUMENTS...: which does so many units of work"},
    {NULL, 0, 0, NULL, NULL},
};
