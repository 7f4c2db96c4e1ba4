/*
 * Any text as the URL of a Redis server; what it is called for people must lead back to the place.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "index/redis_url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    atd_auto_free char *text = malloc(size + 1);
    struct atd_redis_url url;
    struct atd_redis_url again;
    struct atd_error err = ATD_ERROR_INIT;

    require(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    if (atd_redis_url_parse(text, &url, &err) != 0) {
        require(err.code == EINVAL && err.text[0]);
        return 0;
    }
    require((url.host[0] != '\0') + (url.path[0] != '\0') + (url.sentinel_count > 0) == 1);
    require((url.master[0] != '\0') == (url.sentinel_count > 0));
    require(!url.path[0] || url.path[0] == '/');
    require(!url.host[0] || (url.port > 0 && url.port < 65536));
    for (unsigned i = 0; i < url.sentinel_count; i++) {
        require(url.sentinels[i].host[0] != '\0');
        require(url.sentinels[i].port > 0 && url.sentinels[i].port < 65536);
        if (strchr(url.sentinels[i].host, '%'))
            return 0;
    }
    if (strchr(url.host, '%'))
        return 0; /* an address with a zone is shown as people write it */
    require(atd_redis_url_parse(url.shown, &again, &err) == 0);
    require(strcmp(again.host, url.host) == 0 && strcmp(again.path, url.path) == 0);
    require(again.port == url.port && again.db == url.db && again.tls == url.tls);
    require(strcmp(again.master, url.master) == 0);
    require(again.sentinel_count <= url.sentinel_count);
    for (unsigned i = 0; i < again.sentinel_count; i++) {
        require(strcmp(again.sentinels[i].host, url.sentinels[i].host) == 0);
        require(again.sentinels[i].port == url.sentinels[i].port);
    }
    require(!again.user[0] && !again.password[0] && !again.sentinel_password[0]);
    require(strcmp(again.shown, url.shown) == 0);
    return 0;
}
