/* SPDX-License-Identifier: MIT */
/* admin_access - who is at the other end of a connection to the admin port, and what that allows. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <gnutls/gnutls.h>

struct admin_listener;

/* The process at the other end of a unix socket is root's, or of our user, or of the socket's group. */
bool admin_peer_may_write(const struct admin_listener *, int fd);

enum admin_visitor { ADMIN_UNKNOWN, ADMIN_READER, ADMIN_WRITER };
/* By the certificate it has shown: of one of our CAs, and with a name in the list.  A certificate with DNS
 * names has these only; its CN counts where there is none. */
enum admin_visitor admin_visitor_of(gnutls_session_t, const char *const *writers, size_t n_writers);

/* Certificate authorities of clients, from PEM: 0; -EINVAL: there is none in it; -ENOMEM. */
struct admin_cas;
int admin_cas_new(const char *pem, struct admin_cas **out);
void admin_cas_free(struct admin_cas *); /* NULL is allowed */
/* Has a client shown a certificate of one of them? */
bool admin_cas_trust(const struct admin_cas *, gnutls_session_t);
