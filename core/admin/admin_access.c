/* SPDX-License-Identifier: MIT */
/* admin_access - see admin_access.h. */
#include "core/admin/admin_access.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>
#include <gnutls/x509.h>
#include <semstreams/ext/tls-names.h>
#include "core/admin/admin_listen.h"

/* Is the group among those of the process, which connected with them? */
static bool has_group(int fd, const struct ucred *peer, gid_t group)
{
	gid_t groups[1024];
	socklen_t size = sizeof groups;

	if (peer->gid == group)
		return true;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) < 0)
		return false;
	for (size_t i = 0; i < size / sizeof groups[0]; i++)
		if (groups[i] == group)
			return true;
	return false;
}

bool admin_peer_may_write(const struct admin_listener *l, int fd)
{
	struct ucred peer;
	socklen_t size = sizeof peer;

	if (!l->is_unix || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 || size != sizeof peer)
		return false;
	return peer.uid == 0 || peer.uid == geteuid() || (l->has_group && has_group(fd, &peer, l->group));
}

/* ---- certificates ---- */

struct search {
	const char *const *names;
	size_t n;
	bool dns; /* there is a DNS name */
	bool found;
};

static void compare(struct search *s, const uint8_t *name, size_t len)
{
	for (size_t i = 0; name && i < s->n; i++)
		s->found |= strlen(s->names[i]) == len &&
			    strncasecmp(s->names[i], (const char *)name, len) == 0 && !memchr(name, 0, len);
}

static bool on_san(void *arg, unsigned kind, const uint8_t *name, size_t len)
{
	struct search *s = arg;

	if (kind == GNUTLS_SAN_DNSNAME) {
		s->dns = true;
		compare(s, name, len);
	}
	return !s->found;
}

static bool on_cn(void *arg, const uint8_t *name, size_t len)
{
	struct search *s = arg;

	compare(s, name, len);
	return !s->found;
}

static bool is_listed(gnutls_x509_crt_t crt, const char *const *names, size_t n)
{
	struct search s = {.names = names, .n = n};
	gnutls_x509_dn_t dn;

	tls_each_san(crt, on_san, &s);
	if (!s.dns && gnutls_x509_crt_get_subject(crt, &dn) == 0)
		tls_each_cn(dn, on_cn, &s);
	return s.found;
}

enum admin_visitor admin_visitor_of(gnutls_session_t session, const char *const *writers, size_t n_writers)
{
	unsigned char purpose[] = GNUTLS_KP_TLS_WWW_CLIENT;
	gnutls_typed_vdata_st data = {.type = GNUTLS_DT_KEY_PURPOSE_OID, .data = purpose};
	enum admin_visitor visitor = ADMIN_READER;
	unsigned status = 0, n = 0;
	gnutls_x509_crt_t crt;

	if (gnutls_certificate_verify_peers(session, &data, 1, &status) < 0 || status != 0)
		return ADMIN_UNKNOWN;
	const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &n);
	if (!chain || n == 0 || gnutls_x509_crt_init(&crt) < 0)
		return ADMIN_UNKNOWN;
	if (gnutls_x509_crt_import(crt, &chain[0], GNUTLS_X509_FMT_DER) < 0)
		visitor = ADMIN_UNKNOWN;
	else if (is_listed(crt, writers, n_writers))
		visitor = ADMIN_WRITER;
	gnutls_x509_crt_deinit(crt);
	return visitor;
}

/* ---- authorities ---- */

struct admin_cas {
	gnutls_x509_trust_list_t list;
};

int admin_cas_new(const char *pem, struct admin_cas **out)
{
	const gnutls_datum_t text = {.data = (unsigned char *)(uintptr_t)pem, .size = (unsigned)strlen(pem)};
	struct admin_cas *cas = calloc(1, sizeof *cas);

	if (!cas || gnutls_x509_trust_list_init(&cas->list, 0) < 0) {
		free(cas);
		return -ENOMEM;
	}
	if (gnutls_x509_trust_list_add_trust_mem(cas->list, &text, NULL, GNUTLS_X509_FMT_PEM, 0, 0) <= 0) {
		admin_cas_free(cas);
		return -EINVAL;
	}
	*out = cas;
	return 0;
}

void admin_cas_free(struct admin_cas *cas)
{
	if (cas)
		gnutls_x509_trust_list_deinit(cas->list, 1);
	free(cas);
}

bool admin_cas_trust(const struct admin_cas *cas, gnutls_session_t session)
{
	enum { CHAIN_MAX = 16 };
	gnutls_x509_crt_t chain[CHAIN_MAX];
	unsigned n = 0, got = 0, status = 1;
	const gnutls_datum_t *shown = gnutls_certificate_get_peers(session, &n);

	if (!shown || n > CHAIN_MAX)
		return false;
	for (; got < n && gnutls_x509_crt_init(&chain[got]) == 0; got++)
		if (gnutls_x509_crt_import(chain[got], &shown[got], GNUTLS_X509_FMT_DER) < 0) {
			gnutls_x509_crt_deinit(chain[got]);
			break;
		}
	bool good = n > 0 && got == n &&
		    gnutls_x509_trust_list_verify_crt(cas->list, chain, n, 0, &status, NULL) == 0 &&
		    status == 0;
	while (got > 0)
		gnutls_x509_crt_deinit(chain[--got]);
	return good;
}
