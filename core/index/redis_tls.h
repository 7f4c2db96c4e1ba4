/*
 * TLS over a connected non-blocking socket, as a client. The server's certificate must be right and
 * for the host that was asked for, unless the URL says otherwise.
 *
 * Threads: one at a time. Signals: none; OpenSSL's own socket code would raise SIGPIPE.
 */
#ifndef ATD_INDEX_REDIS_TLS_H
#define ATD_INDEX_REDIS_TLS_H

#include <sys/types.h>

#include "index/redis_url.h"

struct atd_redis_tls;

/* What an operation waits for when it returns -EAGAIN. */
enum atd_redis_wait { ATD_REDIS_WAIT_READ, ATD_REDIS_WAIT_WRITE };

/* `fd` is borrowed. `ca_file` NULL or "": the system's. Errors: EINVAL for the CA file; ENOMEM. */
int atd_redis_tls_new(int fd, const struct atd_redis_url *url, const char *ca_file,
                      struct atd_redis_tls **ret_tls, struct atd_error *err) ATD_MUST_USE;

/*
 * 0 when the handshake is done, -EAGAIN when it waits. Errors: EACCES for the certificate; EPROTO
 * when there is no TLS; ECONNRESET.
 */
int atd_redis_tls_handshake(struct atd_redis_tls *tls, enum atd_redis_wait *ret_wait,
                            struct atd_error *err) ATD_MUST_USE;

/* As recv() and send(): bytes, 0 at the end (recv only), or -EAGAIN; else a set error. */
ssize_t atd_redis_tls_recv(struct atd_redis_tls *tls, void *bytes, size_t size,
                           enum atd_redis_wait *ret_wait, struct atd_error *err) ATD_MUST_USE;
ssize_t atd_redis_tls_send(struct atd_redis_tls *tls, const void *bytes, size_t len,
                           enum atd_redis_wait *ret_wait, struct atd_error *err) ATD_MUST_USE;

/* Says goodbye if that goes at once. NULL is fine. */
void atd_redis_tls_free(struct atd_redis_tls *tls);

#endif
