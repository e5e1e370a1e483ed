/* SPDX-License-Identifier: MIT */
/* ws_tls_io - see ws_tls.h: reading from an open TLS connection.  On the component's loop. */
#include "ws_tls.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

ssize_t ws_tls_read(void *connection, void *buf, size_t size)
{
	SSL *ssl = connection;
	ERR_clear_error();
	int n = SSL_read(ssl, buf, size < INT_MAX ? (int)size : INT_MAX);
	if (n > 0)
		return n;
	switch (SSL_get_error(ssl, n)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE: /* of an answer to a change of keys: it goes out with what is sent next */
		return -EAGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	default:
		ERR_clear_error();
		return -EIO;
	}
}

size_t ws_tls_pending(void *ssl)
{
	int n = SSL_pending(ssl);
	return n > 0 ? (size_t)n : 0;
}
