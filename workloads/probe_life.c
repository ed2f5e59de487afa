/* vbench-probe: a guest that is seen to live, from inside and from beside it.
 *
 * `live` runs in the guest. Each millisecond it sends a numbered tick with the guest's clocks, and
 * touches memory at a stated rate. It greets who connects with an answer, and answers whoever is
 * connected: a number that only its memory holds, and what the next tick would say. `watch` runs on the host: it stamps the ticks, asks over one connection, and says
 * on demand what it saw since it was asked last. */
#include "probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define PERIOD_NS 1000000
/* Of a longer pause nothing is made up for: it would be a burst that no load has. */
#define CATCH_UP 100
#define ASK 'r'  /* answer at once */
#define WALK 'm' /* first look at each page of the memory */

struct tick {
    uint64_t number, monotonic_ns, real_ns, pages; /* pages: touched so far */
};

struct answer {
    /* pages that hold the token; those that do not hold what was written last; how long to look
     * at all took */
    uint64_t token, intact, stale, walk_ns;
    struct tick now;
};

static uint64_t real_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static struct sockaddr_in internet(const char *text, uint64_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, text, &address.sin_addr) != 1)
        die("%s is no address", text);
    return address;
}

static int every_millisecond(void)
{
    struct itimerspec period = {{0, PERIOD_NS}, {0, PERIOD_NS}};
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    if (timer < 0 || timerfd_settime(timer, 0, &period, NULL) != 0)
        die("timerfd: %s", strerror(errno));
    return timer;
}

static void without_delay(int connection)
{
    int on = 1;
    setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* ------------------------------------------------------------------ in the guest */

/* Of each page the first word is the token, the second counts: when the page was touched last. */
static volatile uint64_t *memory;
static uint64_t pages, token, touched;

static void touch(uint64_t count)
{
    for (uint64_t i = 0; i < count && pages; i++, touched++)
        memory[touched % pages * (PAGE / 8) + 1] = touched + 1;
}

static void answer(int connection, char question, uint64_t number)
{
    struct answer answer = {.token = token};
    if (question == WALK) {
        uint64_t began = now_ns();
        for (uint64_t i = 0; i < pages; i++) {
            /* the last of 1 to `touched` that fell on this page, 0 if none did */
            uint64_t last = touched > i ? touched - (touched - 1 - i) % pages : 0;
            answer.intact += memory[i * (PAGE / 8)] == token;
            answer.stale += memory[i * (PAGE / 8) + 1] != last;
        }
        answer.walk_ns = now_ns() - began;
    }
    answer.now = (struct tick){number, now_ns(), real_ns(), touched};
    (void)!write(connection, &answer, sizeof answer);
}

static int listening(uint64_t port)
{
    struct sockaddr_in address = internet("0.0.0.0", port);
    int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(listener, 4) != 0)
        die("port %" PRIu64 ": %s", port, strerror(errno));
    return listener;
}

static int run_live(char **arguments)
{
    uint64_t port, tick_port, mib, rate, due = 0;
    if (!number(arguments[0], 1, 65535, &port) || !number(arguments[2], 1, 65535, &tick_port) ||
        !number(arguments[3], 0, 1 << 20, &mib) || !number(arguments[4], 0, 1 << 20, &rate))
        return 2;
    struct sockaddr_in to = internet(arguments[1], tick_port);
    pages = (mib << 20) / PAGE;
    if (getrandom(&token, sizeof token, 0) != sizeof token)
        die("getrandom: %s", strerror(errno));
    if (pages)
        memory = map_memory(mib << 20, MADV_NOHUGEPAGE);
    for (uint64_t i = 0; i < pages; i++)
        memory[i * (PAGE / 8)] = token;
    int ticks = socket(AF_INET, SOCK_DGRAM, 0), listener = listening(port);
    if (ticks < 0 || connect(ticks, (struct sockaddr *)&to, sizeof to) != 0)
        die("%s: %s", arguments[1], strerror(errno));
    struct pollfd ends[] = {{every_millisecond(), POLLIN, 0}, {listener, POLLIN, 0},
                            {-1, POLLIN, 0}};
    printf("{\"listening\": %" PRIu64 "}\n", port);
    fflush(stdout);
    for (uint64_t sent = 0;;) {
        uint64_t periods = 0;
        char question;
        if (poll(ends, 3, -1) < 0)
            die("poll: %s", strerror(errno));
        if (ends[0].revents && read(ends[0].fd, &periods, sizeof periods) > 0) {
            /* rate MiB/s are rate * 256 / 1000 pages in a millisecond */
            due += (periods < CATCH_UP ? periods : CATCH_UP) * rate * ((1 << 20) / PAGE);
            touch(due / 1000);
            due %= 1000;
            struct tick tick = {sent++, now_ns(), real_ns(), touched};
            (void)!send(ticks, &tick, sizeof tick, 0); /* nobody need be there to see it */
        }
        if (ends[2].revents) {
            if (read(ends[2].fd, &question, 1) == 1) {
                answer(ends[2].fd, question, sent);
            } else {
                close(ends[2].fd);
                ends[2].fd = -1;
            }
        }
        if (ends[1].revents) { /* the newest one is served */
            if (ends[2].fd >= 0)
                close(ends[2].fd);
            if ((ends[2].fd = accept(listener, NULL, NULL)) < 0)
                die("accept: %s", strerror(errno));
            without_delay(ends[2].fd);
            answer(ends[2].fd, ASK, sent);
        }
    }
}

/* ------------------------------------------------------------------ beside it */

static struct {
    uint64_t began_ns, answers, walks;
    uint64_t wait_ns; /* the longest, an unanswered question included */
    uint64_t ticks, missing, gap_ns;     /* numbers that never came; the longest gap, an open one included */
    uint64_t first_ns, last_ns;          /* our stamps of ticks */
    struct tick first, last;
    struct answer answer; /* the last one */
} seen;

static int guest = -1;
static uint64_t asked_ns; /* 0: no question is open */
static int asking;        /* question after question, a millisecond apart */
static char wanted;       /* the one to ask once the open one is answered; 0: none */

static void waited(uint64_t until_ns)
{
    if (asked_ns && until_ns - asked_ns > seen.wait_ns)
        seen.wait_ns = until_ns - asked_ns;
}

static void hang_up(void)
{
    waited(now_ns());
    close(guest);
    guest = -1;
    asked_ns = 0;
}

static void ask(char question)
{
    asked_ns = now_ns();
    if (write(guest, &question, 1) != 1)
        hang_up();
}

static void hear(void)
{
    static char buffer[sizeof(struct answer)];
    static size_t held;
    ssize_t size = read(guest, buffer + held, sizeof buffer - held);
    if (size <= 0) {
        held = 0;
        hang_up();
        return;
    }
    held += (size_t)size;
    if (held < sizeof buffer)
        return;
    held = 0;
    waited(now_ns());
    asked_ns = 0;
    seen.answers++;
    memcpy(&seen.answer, buffer, sizeof buffer);
    seen.walks += seen.answer.walk_ns > 0;
}

static void stamp(int ticks)
{
    struct tick tick;
    char control[CMSG_SPACE(sizeof(struct timespec))];
    struct iovec part = {&tick, sizeof tick};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    while (recvmsg(ticks, &message, MSG_DONTWAIT) == sizeof tick) {
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        struct timespec at;
        if (!header || header->cmsg_type != SCM_TIMESTAMPNS)
            die("the kernel does not stamp what comes");
        memcpy(&at, CMSG_DATA(header), sizeof at);
        uint64_t at_ns = (uint64_t)at.tv_sec * 1000000000 + (uint64_t)at.tv_nsec;
        if (!seen.ticks++) {
            seen.first = tick;
            seen.first_ns = at_ns;
        } else {
            if (at_ns > seen.last_ns + seen.gap_ns)
                seen.gap_ns = at_ns - seen.last_ns;
            if (tick.number > seen.last.number)
                seen.missing += tick.number - seen.last.number - 1;
        }
        seen.last = tick;
        seen.last_ns = at_ns;
        message.msg_controllen = sizeof control;
    }
}

/* What was seen since the last report. The last tick begins the next one: no gap falls between. */
static void report(void)
{
    uint64_t now = now_ns(), stamped = real_ns();
    waited(now);
    if (seen.ticks && stamped > seen.last_ns + seen.gap_ns)
        seen.gap_ns = stamped - seen.last_ns; /* a stream that stopped is a gap that lasts */
    printf("{\"elapsed_ns\": %" PRIu64 ", \"connected\": %d, \"answers\": %" PRIu64
           ", \"wait_ns\": %" PRIu64 ", \"token\": %" PRIu64 ", \"intact\": %" PRIu64
           ", \"stale\": %" PRIu64 ", \"walk_ns\": %" PRIu64 ", \"walks\": %" PRIu64,
           now - seen.began_ns, guest >= 0, seen.answers, seen.wait_ns, seen.answer.token,
           seen.answer.intact, seen.answer.stale, seen.answer.walk_ns, seen.walks);
    printf(", \"ticks\": %" PRIu64 ", \"missing\": %" PRIu64 ", \"gap_ns\": %" PRIu64
           ", \"host_ns\": %" PRIu64 ", \"monotonic_ns\": %" PRId64 ", \"real_ns\": %" PRId64
           ", \"pages\": %" PRIu64 "}\n",
           seen.ticks, seen.missing, seen.gap_ns, seen.last_ns - seen.first_ns,
           (int64_t)(seen.last.monotonic_ns - seen.first.monotonic_ns),
           (int64_t)(seen.last.real_ns - seen.first.real_ns), seen.last.pages - seen.first.pages);
    fflush(stdout);
    uint64_t ticks = seen.ticks > 0, last_ns = seen.last_ns;
    struct tick last = seen.last;
    struct answer answer = seen.answer;
    memset(&seen, 0, sizeof seen);
    seen.began_ns = now;
    seen.answer = answer;
    seen.ticks = ticks;
    seen.first = seen.last = last;
    seen.first_ns = seen.last_ns = last_ns;
    if (asked_ns)
        asked_ns = now; /* what was waited so far is told */
}

/* A command of one letter. */
static void obey(char command)
{
    if (command == 'g' || command == 's')
        asking = command == 'g';
    if (command == ASK || command == WALK)
        wanted = command;
    if (command == '?')
        report();
}

static int run_watch(char **arguments)
{
    uint64_t port, tick_port, periods;
    int on = 1, room = 4 << 20;
    if (!number(arguments[1], 1, 65535, &port) || !number(arguments[2], 1, 65535, &tick_port))
        return 2;
    struct sockaddr_in to = internet(arguments[0], port), here = internet("0.0.0.0", tick_port);
    int ticks = socket(AF_INET, SOCK_DGRAM, 0);
    if (ticks < 0 || bind(ticks, (struct sockaddr *)&here, sizeof here) != 0 ||
        setsockopt(ticks, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on) != 0)
        die("port %" PRIu64 ": %s", tick_port, strerror(errno));
    setsockopt(ticks, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    guest = socket(AF_INET, SOCK_STREAM, 0);
    if (guest < 0 || connect(guest, (struct sockaddr *)&to, sizeof to) != 0)
        die("%s:%" PRIu64 ": %s", arguments[0], port, strerror(errno));
    without_delay(guest);
    struct answer greeting;
    if (recv(guest, &greeting, sizeof greeting, MSG_WAITALL) != sizeof greeting)
        die("%s:%" PRIu64 " does not greet", arguments[0], port);
    seen.began_ns = now_ns();
    printf("{\"connected\": 1}\n");
    fflush(stdout);
    struct pollfd ends[] = {{STDIN_FILENO, POLLIN, 0}, {ticks, POLLIN, 0}, {-1, POLLIN, 0},
                            {every_millisecond(), POLLIN, 0}};
    for (;;) {
        char command;
        ends[2].fd = guest;
        if (poll(ends, 4, -1) < 0)
            die("poll: %s", strerror(errno));
        if (ends[1].revents)
            stamp(ticks);
        if (ends[2].revents)
            hear();
        if (ends[0].revents) {
            if (read(STDIN_FILENO, &command, 1) != 1)
                return 0;
            obey(command);
        }
        if (ends[3].revents && read(ends[3].fd, &periods, sizeof periods) > 0 && asking && !wanted)
            wanted = ASK;
        if (wanted && guest >= 0 && !asked_ns) {
            ask(wanted);
            wanted = 0;
        }
    }
}

const struct command LIFE_COMMANDS[] = {
    {"live", 5, 5, run_live,
     "PORT ADDRESS TICKPORT MIB MIB/S: answer, tick each millisecond, touch memory"},
    {"watch", 3, 3, run_watch,
     "ADDRESS PORT TICKPORT: of `live`; on standard input g (ask on), s (stop), r, m (ask once), ?"},
    {NULL, 0, 0, NULL, NULL},
};
