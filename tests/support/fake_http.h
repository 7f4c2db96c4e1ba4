/*
 * A scripted HTTP/1.1 server for tests: what each request gets, a function of the test decides.
 *
 *     static void answer(void *ctx, const struct fake_request *request, struct fake_reply *reply)
 *     {
 *         if (request->number == 0)
 *             reply->end = FAKE_RESET, reply->cut = true, reply->cut_at = 10;
 *         fake_http_object(request, reply, object, sizeof(object));
 *     }
 *     struct fake_http *server = fake_http_start(answer, NULL);
 *     ... fake_http_url(server, "/bucket/key", url, sizeof(url)) ...
 *     fake_http_stop(server);
 *
 * Threads: one for accepting and one a connection; the function is called from these, one at a
 * time (the server's lock is held), so it may count in plain variables. Whoever reads them while
 * the server runs needs atomics. Failures of the server itself abort the test.
 */
#ifndef ATD_TESTS_FAKE_HTTP_H
#define ATD_TESTS_FAKE_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FAKE_HEADERS_MAX 16384
#define FAKE_TARGET_MAX 4096
#define FAKE_BODY_MAX (4u << 20)
#define FAKE_REPLY_HEADERS_MAX 2048

struct fake_request {
    unsigned number;        /* of all requests, from 0 in the order of arrival */
    unsigned connection;    /* number of its connection, from 0 */
    unsigned on_connection; /* number of the request on it, from 0 */
    char method[16];
    char target[FAKE_TARGET_MAX];   /* as sent */
    char headers[FAKE_HEADERS_MAX]; /* lines as sent, without the request line */
    const uint8_t *body;
    size_t body_len;
};

/* What happens when the reply has been sent, whole or cut. */
enum fake_end {
    FAKE_KEEP,  /* the connection serves the next request; after a cut: it is closed */
    FAKE_CLOSE, /* closed */
    FAKE_RESET, /* closed with RST */
    FAKE_STALL, /* open, and silent until the other side closes or the server stops */
};

/* All zero is "200, no body". */
struct fake_reply {
    unsigned delay_ms;  /* before the first byte */
    const char *before; /* sent as it is before the status line: 1xx replies */
    const char *raw;    /* sent as it is instead of everything below; raw_len 0: strlen */
    size_t raw_len;
    int status;                           /* 0: 200 */
    char headers[FAKE_REPLY_HEADERS_MAX]; /* whole lines, each with \r\n */
    const void *body;
    size_t body_len;
    bool no_length; /* neither Content-Length nor chunks: until the close */
    bool chunked;   /* chunks of at most 4096 bytes */
    bool lie;       /* Content-Length: said_length */
    uint64_t said_length;
    bool cut;          /* ends after cut_at bytes of the body */
    size_t cut_at;     /* SIZE_MAX: before the status line */
    unsigned pause_ms; /* between the head and the body */
    unsigned drip_ms;  /* after each drip_bytes of a body that is not chunked */
    size_t drip_bytes; /* 0: 4096 */
    enum fake_end end;
};

typedef void (*fake_answer)(void *ctx, const struct fake_request *request,
                            struct fake_reply *reply);

struct fake_http;

/* Listens on a free port of 127.0.0.1. */
struct fake_http *fake_http_start(fake_answer answer, void *ctx);
/* Cuts all connections and joins the threads. NULL is fine. */
void fake_http_stop(struct fake_http *server);

/* How the body of a request is read. All zero is "as it comes". */
struct fake_reading {
    unsigned delay_ms; /* before its first byte */
    unsigned drip_ms;  /* before each drip_bytes */
    size_t drip_bytes; /* 0: 4096 */
    bool cut;          /* nothing is read after cut_at bytes, and nothing answered */
    size_t cut_at;
    enum fake_end end; /* after a cut */
};

/* As fake_answer, when the head has come: request->number counts bodies here. */
typedef void (*fake_intake)(void *ctx, const struct fake_request *request,
                            struct fake_reading *reading);

/*
 * Has bodies read as `intake` says. Connections accepted from now on buffer about `buffer_bytes`;
 * 0: as the system likes. Before the first request.
 */
void fake_http_read_as(struct fake_http *server, fake_intake intake, int buffer_bytes);

unsigned fake_http_port(const struct fake_http *server);
/* "http://127.0.0.1:PORT" and `path`. */
void fake_http_url(const struct fake_http *server, const char *path, char *ret_url, size_t size);

/* So far. Any thread. */
unsigned fake_http_requests(struct fake_http *server);
unsigned fake_http_connections(struct fake_http *server);
/* Requests being answered now, delays and stalls included, and the most there were at once. */
unsigned fake_http_busy(struct fake_http *server);
unsigned fake_http_busiest(struct fake_http *server);

/* Value of a header of the request, copied; false when there is none. */
bool fake_http_header(const struct fake_request *request, const char *name, char *ret_value,
                      size_t size);

/*
 * Fills status, headers and body for a GET or HEAD of these bytes, as object stores do: 206 with
 * Content-Range for "Range: bytes=a-b" or "a-", 416 past the end, else 200. Leaves faults (cut,
 * end, delay) alone. The bytes must live as long as the server.
 */
void fake_http_object(const struct fake_request *request, struct fake_reply *reply,
                      const void *object, size_t len);

#endif
