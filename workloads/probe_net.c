/* vbench-probe: one byte there and back over TCP. */
#include "probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void no_delay(int connection)
{
    int on = 1; /* a byte must go out at once */
    if (setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0)
        die("TCP_NODELAY: %s", strerror(errno));
}

static int run_rr_server(char **arguments)
{
    uint64_t port;
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    int on = 1;
    char byte;
    if (!number(arguments[0], 0, 65535, &port))
        return 2;
    no_preemption_at_wakeup(); /* the client may share our CPU */
    address.sin_port = htons((uint16_t)port);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(listener, 1) != 0 || getsockname(listener, (struct sockaddr *)&address, &size) != 0)
        die("port %" PRIu64 ": %s", port, strerror(errno));
    printf("{\"listening\": %d}\n", ntohs(address.sin_port)); /* the sign to start the client */
    fflush(stdout);
    for (;;) { /* until it is ended: a new client for every round */
        int connection = accept(listener, NULL, NULL);
        if (connection < 0)
            die("accept: %s", strerror(errno));
        no_delay(connection);
        while (read(connection, &byte, 1) == 1)
            if (write(connection, &byte, 1) != 1)
                break; /* the client went away; it knows */
        close(connection);
    }
}

static int connection;

static void run_round_trips(uint64_t trips)
{
    char byte = 0;
    for (uint64_t i = 0; i < trips; i++)
        if (write(connection, &byte, 1) != 1 || read(connection, &byte, 1) != 1)
            die("the server went away");
}

static int run_rr_client(char **arguments)
{
    uint64_t port;
    struct sockaddr_in address = {.sin_family = AF_INET};
    if (inet_pton(AF_INET, arguments[0], &address.sin_addr) != 1 ||
        !number(arguments[1], 1, 65535, &port))
        return 2;
    no_preemption_at_wakeup();
    address.sin_port = htons((uint16_t)port);
    connection = socket(AF_INET, SOCK_STREAM, 0);
    if (connection < 0 || connect(connection, (struct sockaddr *)&address, sizeof address) != 0)
        die("%s:%" PRIu64 ": %s", arguments[0], port, strerror(errno));
    no_delay(connection);
    run_round_trips(1); /* the server serves us now */
    return timed_groups(arguments[2], 1, run_round_trips);
}

/* Standard input and output as a TCP connection, for whoever is outside of its namespace. */
static int run_relay(char **arguments)
{
    uint64_t port;
    struct sockaddr_in address = {.sin_family = AF_INET};
    char data[65536];
    if (inet_pton(AF_INET, arguments[0], &address.sin_addr) != 1 ||
        !number(arguments[1], 1, 65535, &port))
        return 2;
    address.sin_port = htons((uint16_t)port);
    connection = socket(AF_INET, SOCK_STREAM, 0);
    if (connection < 0 || connect(connection, (struct sockaddr *)&address, sizeof address) != 0)
        die("%s:%" PRIu64 ": %s", arguments[0], port, strerror(errno));
    no_delay(connection);
    struct pollfd ends[] = {{STDIN_FILENO, POLLIN, 0}, {connection, POLLIN, 0}};
    int into[] = {connection, STDOUT_FILENO};
    for (;;) {
        if (poll(ends, 2, -1) < 0)
            die("poll: %s", strerror(errno));
        for (int i = 0; i < 2; i++) {
            if (ends[i].revents == 0)
                continue;
            ssize_t size = read(ends[i].fd, data, sizeof data);
            if (size <= 0)
                return 0; /* either end closed it */
            for (ssize_t done = 0, n; done < size; done += n)
                if ((n = write(into[i], data + done, (size_t)(size - done))) < 0)
                    return 0;
        }
    }
}

const struct command NET_COMMANDS[] = {
    {"rr-server", 1, 1, run_rr_server, "PORT: answer every connection's bytes (0: any port)"},
    {"rr-client", 3, 3, run_rr_client, "ADDRESS PORT N: round trips of one byte over TCP"},
    {"relay", 2, 2, run_relay, "ADDRESS PORT: standard input and output as a TCP connection"},
    {NULL, 0, 0, NULL, NULL},
};
