#include "index/redis_tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

struct atd_redis_tls {
    SSL_CTX *context;
    SSL *ssl;
    BIO_METHOD *method;
};

/* ------------------------------------------------------------------ a socket without SIGPIPE */

static int socket_of(BIO *bio)
{
    return (int)(intptr_t)BIO_get_data(bio);
}

static int bio_write(BIO *bio, const char *bytes, int len)
{
    ssize_t done = send(socket_of(bio), bytes, (size_t)len, MSG_NOSIGNAL);

    BIO_clear_retry_flags(bio);
    if (done < 0 && (errno == EAGAIN || errno == EINTR))
        BIO_set_retry_write(bio);
    return (int)done;
}

static int bio_read(BIO *bio, char *bytes, int size)
{
    ssize_t done = recv(socket_of(bio), bytes, (size_t)size, 0);

    BIO_clear_retry_flags(bio);
    if (done < 0 && (errno == EAGAIN || errno == EINTR))
        BIO_set_retry_read(bio);
    return (int)done;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static BIO *new_bio(struct atd_redis_tls *tls, int fd)
{
    BIO *bio;

    tls->method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "atd socket");
    if (!tls->method || !BIO_meth_set_write(tls->method, bio_write) ||
        !BIO_meth_set_read(tls->method, bio_read) || !BIO_meth_set_ctrl(tls->method, bio_ctrl))
        return NULL;
    bio = BIO_new(tls->method);
    if (bio) {
        BIO_set_data(bio, (void *)(intptr_t)fd);
        BIO_set_init(bio, 1);
    }
    return bio;
}

/* ------------------------------------------------------------------ setting up */

/* The certificate must name the host; an address is no name, neither there nor in SNI. */
static bool set_host(SSL *ssl, const char *host)
{
    unsigned char address[sizeof(struct in6_addr)];
    char name[sizeof(((struct atd_redis_url *)NULL)->host)]; /* OpenSSL's macro wants no const */

    if (inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
    (void)snprintf(name, sizeof(name), "%s", host);
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, name) == 1;
}

static int set_trust(SSL_CTX *context, const struct atd_redis_url *url, const char *ca_file,
                     struct atd_error *err)
{
    if (url->tls_insecure) {
        SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
        return 0;
    }
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    if (url->ca_file[0])
        ca_file = url->ca_file;
    if (!ca_file || !*ca_file) {
        (void)SSL_CTX_set_default_verify_paths(context);
        return 0;
    }
    if (SSL_CTX_load_verify_locations(context, ca_file, NULL) != 1) {
        ERR_clear_error();
        return atd_error_set(err, EINVAL, "'%s' holds no CA certificates that can be read",
                             ca_file);
    }
    return 0;
}

int atd_redis_tls_new(int fd, const struct atd_redis_url *url, const char *ca_file,
                      struct atd_redis_tls **ret_tls, struct atd_error *err)
{
    struct atd_redis_tls *tls = calloc(1, sizeof(*tls));
    BIO *bio = NULL;
    int rc = 0;

    if (tls)
        tls->context = SSL_CTX_new(TLS_client_method());
    if (tls && tls->context) {
        (void)SSL_CTX_set_min_proto_version(tls->context, TLS1_2_VERSION);
        (void)SSL_CTX_set_mode(tls->context, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                                 SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                                 SSL_MODE_RELEASE_BUFFERS);
        rc = set_trust(tls->context, url, ca_file, err);
        if (rc) {
            atd_redis_tls_free(tls);
            return rc;
        }
        tls->ssl = SSL_new(tls->context);
        bio = new_bio(tls, fd);
    }
    if (!bio || !tls->ssl || !set_host(tls->ssl, url->host)) {
        BIO_free(bio);
        atd_redis_tls_free(tls);
        ERR_clear_error();
        return atd_error_set(err, ENOMEM, "TLS cannot be set up");
    }
    SSL_set_bio(tls->ssl, bio, bio); /* owns it from here */
    SSL_set_connect_state(tls->ssl);
    *ret_tls = tls;
    return 0;
}

void atd_redis_tls_free(struct atd_redis_tls *tls)
{
    if (!tls)
        return;
    if (tls->ssl && SSL_is_init_finished(tls->ssl)) {
        ERR_clear_error();
        (void)SSL_shutdown(tls->ssl);
    }
    SSL_free(tls->ssl);
    SSL_CTX_free(tls->context);
    BIO_meth_free(tls->method);
    ERR_clear_error();
    free(tls);
}

/* ------------------------------------------------------------------ running */

/* OpenSSL's own words for the last failure, without file names and numbers. */
static const char *last_reason(unsigned long code)
{
    const char *reason = code ? ERR_reason_error_string(code) : NULL;

    return reason ? reason : "no reason given";
}

static int closed(struct atd_redis_tls *tls, int code, struct atd_error *err)
{
    if (!SSL_is_init_finished(tls->ssl))
        return atd_error_set_retryable(err, ECONNRESET,
                                       "the server closed the connection during the TLS handshake "
                                       "(does it speak TLS on this port?)");
    if (code && code != ECONNRESET && code != EPIPE)
        return atd_error_set_retryable(err, ECONNRESET, "the connection broke: %s", strerror(code));
    return atd_error_set_retryable(err, ECONNRESET, "the server closed the connection");
}

/* Translates a failed call; the only place that knows OpenSSL's codes. */
static int translate(struct atd_redis_tls *tls, int result, enum atd_redis_wait *ret_wait,
                     struct atd_error *err)
{
    int saved = errno;
    unsigned long code;

    switch (SSL_get_error(tls->ssl, result)) {
    case SSL_ERROR_WANT_READ:
        *ret_wait = ATD_REDIS_WAIT_READ;
        return -EAGAIN;
    case SSL_ERROR_WANT_WRITE:
        *ret_wait = ATD_REDIS_WAIT_WRITE;
        return -EAGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return closed(tls, 0, err);
    case SSL_ERROR_SYSCALL:
        if (ERR_peek_error() == 0)
            return closed(tls, saved, err);
        break;
    default:
        break;
    }
    code = ERR_peek_last_error();
    ERR_clear_error();
    switch (ERR_GET_REASON(code)) {
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
        return atd_error_set(err, EACCES,
                             "the server's certificate is not trusted: %s (its CA is given with "
                             "?ssl_ca_certs=FILE)",
                             X509_verify_cert_error_string(SSL_get_verify_result(tls->ssl)));
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_HTTP_REQUEST:
        return atd_error_set(err, EPROTO,
                             "the server does not speak TLS on this port: without TLS the URL "
                             "begins with redis://");
    case SSL_R_UNEXPECTED_EOF_WHILE_READING:
        return closed(tls, 0, err);
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
        return atd_error_set(err, EACCES,
                             "the server wants a client certificate, which is not supported "
                             "(tls-auth-clients no)");
    default:
        return atd_error_set(err, EPROTO, "TLS: %s", last_reason(code));
    }
}

int atd_redis_tls_handshake(struct atd_redis_tls *tls, enum atd_redis_wait *ret_wait,
                            struct atd_error *err)
{
    int result;

    ERR_clear_error();
    errno = 0;
    result = SSL_do_handshake(tls->ssl);
    return result == 1 ? 0 : translate(tls, result, ret_wait, err);
}

ssize_t atd_redis_tls_recv(struct atd_redis_tls *tls, void *bytes, size_t size,
                           enum atd_redis_wait *ret_wait, struct atd_error *err)
{
    int result;

    ERR_clear_error();
    errno = 0;
    result = SSL_read(tls->ssl, bytes, size > INT_MAX ? INT_MAX : (int)size);
    return result > 0 ? result : translate(tls, result, ret_wait, err);
}

ssize_t atd_redis_tls_send(struct atd_redis_tls *tls, const void *bytes, size_t len,
                           enum atd_redis_wait *ret_wait, struct atd_error *err)
{
    int result;

    ERR_clear_error();
    errno = 0;
    result = SSL_write(tls->ssl, bytes, len > INT_MAX ? INT_MAX : (int)len);
    return result > 0 ? result : translate(tls, result, ret_wait, err);
}
