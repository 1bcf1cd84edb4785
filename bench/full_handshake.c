/* Preloaded into wrk: forgets the TLS session between two connections.
 *
 * wrk reuses one SSL object per connection slot, so it resumes sessions with servers that allow it and not with the
 * others: a new connection would cost each server something else. With this every new connection is a full handshake. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>

int SSL_set_session(void *ssl, void *session);

int SSL_clear(void *ssl)
{
    int (*clear)(void *) = (int (*)(void *))dlsym(RTLD_NEXT, "SSL_clear");
    return clear(ssl) && SSL_set_session(ssl, NULL);
}
