/*
 * Inside of the HTTP engine: one running transfer, that is a curl easy handle and what came so far.
 *
 *     starting --begin--> active --collect--> over --finish--> idle (or freed)
 *         |                  |                 ^
 *         +------cancel------+-----------------+       (also: a timer, no memory)
 *
 * An exchange that goes over is still known to curl until finish; its callbacks then refuse.
 */
#ifndef ATD_NET_HTTP_EXCHANGE_H
#define ATD_NET_HTTP_EXCHANGE_H

#include "net/http_loop.h"

/* All header lines of a transfer, those of 1xx and redirects included. */
#define ATD_HTTP_ALL_HEADER_BYTES_MAX (4 * ATD_HTTP_HEADER_BYTES_MAX)
#define ATD_HTTP_REDIRECTS_MAX 5l
#define ATD_HTTP_SEND_BUFFER_MIN_BYTES (64l << 10) /* libcurl's own choice */
/* How often a body on its way is looked at. */
#define ATD_HTTP_SEND_LOOK_MS 250u
/* What stands for a limit that is not set. */
#define ATD_HTTP_NO_TIMEOUT_MS (24u * 3600 * 1000)

enum atd_http_exchange_state {
    ATD_EXCHANGE_IDLE,
    ATD_EXCHANGE_STARTING,
    ATD_EXCHANGE_ACTIVE,
    ATD_EXCHANGE_OVER,
};

/* The reply's head as it comes in, line by line. */
struct atd_http_intake {
    struct atd_http_head head;
    size_t used;      /* of bytes */
    size_t all_bytes; /* lines of every reply of this transfer */
    bool in_head;     /* the status line was taken, the empty line not yet */
    bool has_location;
    bool has_transfer_encoding;
    char *bytes; /* ATD_HTTP_HEADER_BYTES_MAX of them */
};

enum atd_http_intake_step {
    ATD_INTAKE_MORE,
    ATD_INTAKE_END, /* a head is complete: an interim one, a redirect, or the one */
    ATD_INTAKE_BAD, /* too many or too long headers, lengths that contradict: the text says */
};

/* Takes one header line, as curl gives them. */
enum atd_http_intake_step atd_http_intake_line(struct atd_http_intake *intake, struct atd_str line,
                                               const char **ret_why);
void atd_http_intake_reset(struct atd_http_intake *intake);

struct atd_http_exchange {
    struct atd_http_exchange *next;
    struct atd_http_exchange *previous;
    struct atd_http_loop *loop;
    struct atd_http_transfer *transfer;
    enum atd_http_exchange_state state;
    CURL *easy; /* kept while idle */
    bool added; /* curl has it */

    /* the request */
    struct curl_slist lines[ATD_HTTP_HEADERS_MAX + 2];
    char *line_text; /* what the lines point into */
    size_t sent;     /* of the body: given to curl */
    int64_t left;    /* of the body: what had left this machine when last looked */
    bool sending;    /* not all of it had */
    int fd;          /* that it goes through; -1: not known */
    unsigned issues; /* connections that it was given to; without redirects, 2: it was replayed */

    /* the reply */
    struct atd_http_timer timer;
    int64_t start_ms;
    int64_t active_ms;     /* last byte sent or received */
    int64_t first_byte_ms; /* from start; -1 */
    bool head_given;
    bool refused_address;
    int refusal; /* what head or data returned */
    struct atd_http_intake intake;
    struct atd_error error;
    char curl_text[CURL_ERROR_SIZE];
};

/* Sets every option of the easy handle. Errors: ENOMEM, EPROTO a header with a line break. */
int atd_http_exchange_set_up(struct atd_http_exchange *exchange, struct atd_error *err);

/*
 * Whether bytes of the body left this machine since the last look; `sending` says whether any are
 * left. curl tells what it gave to the kernel, the kernel what the other side has not confirmed:
 * together up to some MiB, which take a slow line longer than any timeout.
 */
bool atd_http_exchange_got_on(struct atd_http_exchange *exchange);

/* Goes over, with an error or, code 0, without. On the loop. */
void atd_http_exchange_end(struct atd_http_exchange *exchange, int code, bool retryable,
                           const char *fmt, ...) ATD_PRINTF(4, 5);
/* curl says how it ended. */
void atd_http_exchange_end_by_curl(struct atd_http_exchange *exchange, CURLcode code);

/* What curl calls: http_callbacks.c. */
size_t atd_http_on_header(char *line, size_t size, size_t count, void *ctx);
size_t atd_http_on_body(char *data, size_t size, size_t count, void *ctx);
size_t atd_http_on_send(char *room, size_t size, size_t count, void *ctx);
int atd_http_on_seek(void *ctx, curl_off_t offset, int origin);
curl_socket_t atd_http_on_socket(void *ctx, curlsocktype purpose, struct curl_sockaddr *address);
int atd_http_on_close(void *ctx, curl_socket_t fd);
int atd_http_on_connected(void *ctx, char *address, char *local, int port, int local_port);

void atd_http_sockets_add(struct atd_http_sockets *sockets, int fd);
void atd_http_sockets_remove(struct atd_http_sockets *sockets, int fd);
/* The one with this port at our end; -1: none. Of two, to two addresses of ours, the first: what is
 * asked of it is only how long to wait. */
int atd_http_sockets_find(const struct atd_http_sockets *sockets, int port);

/* "host" or "host:port" of a URL, for messages: no path, no query, no password. */
struct atd_str atd_http_url_host(const char *url);

#endif
