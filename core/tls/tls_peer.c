/* SPDX-License-Identifier: MIT */
/* tls_peer - may this peer in?  The verdict on a verified or refused chain, and a sentence that says why.
 * Pure, any thread. */
#include "core/tls/tls_peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "core/tls/cert.h"
#include "core/tls/tls_trust.h"
#include <semstreams/base/host_name.h>
#include <semstreams/base/utf8.h>
#include <semstreams/ext/tls.h>

struct check {
	const struct tls_peer_policy *policy;
	const struct ss_der *chain;
	uint32_t n;
	const char *host;
	int64_t now;
	gnutls_x509_crt_t leaf;
	char *name;
	size_t name_size;
	int32_t *fail;
	char *why;
	size_t why_size;
};

const char *tls_peer_reason(int32_t fail)
{
	static const char *const reasons[SS_TLS_FAILS] = {
		[SS_TLS_FAIL_NO_CERT] = "no_certificate", [SS_TLS_FAIL_UNKNOWN_CA] = "unknown_ca",
		[SS_TLS_FAIL_EXPIRED] = "expired",        [SS_TLS_FAIL_NOT_YET_VALID] = "not_yet_valid",
		[SS_TLS_FAIL_PURPOSE] = "purpose",        [SS_TLS_FAIL_NAME] = "name",
		[SS_TLS_FAIL_VERSION] = "version",        [SS_TLS_FAIL_OTHER] = "other",
		[SS_TLS_FAIL_REVOKED] = "revoked",        [SS_TLS_FAIL_CRL_EXPIRED] = "crl_expired",
	};

	return reasons[fail >= 0 && fail < SS_TLS_FAILS ? fail : SS_TLS_FAIL_OTHER];
}

__attribute__((format(printf, 3, 4))) static int refuse(struct check *c, int32_t fail, const char *fmt, ...)
{
	va_list ap;

	*c->fail = fail;
	va_start(ap, fmt);
	vsnprintf(c->why, c->why_size, fmt, ap);
	va_end(ap);
	return -EACCES;
}

/* ---- what the TLS library found ---- */

/* "3 days", in the largest unit there are two of. */
static const char *span(char buf[CERT_SHOWN], int64_t seconds)
{
	static const struct {
		int64_t seconds;
		const char *name;
	} units[] = {{86400, "days"}, {3600, "hours"}, {60, "minutes"}};

	for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
		if (seconds < 2 * units[i].seconds)
			continue;
		snprintf(buf, CERT_SHOWN, "%" PRId64 " %s", seconds / units[i].seconds, units[i].name);
		return buf;
	}
	snprintf(buf, CERT_SHOWN, "%" PRId64 " seconds", seconds);
	return buf;
}

static int refuse_expired(struct check *c, gnutls_x509_crt_t crt)
{
	char who[CERT_SHOWN], when[CERT_SHOWN], ago[CERT_SHOWN];
	int64_t end = cert_not_after(crt);

	return refuse(c, SS_TLS_FAIL_EXPIRED,
		      "certificate %s expired %s (%s ago); check the clock if it should be valid",
		      cert_show_subject(who, crt), cert_show_time(when, end), span(ago, c->now - end));
}

static int refuse_early(struct check *c, gnutls_x509_crt_t crt)
{
	char who[CERT_SHOWN], when[CERT_SHOWN], ahead[CERT_SHOWN];
	int64_t start = cert_not_before(crt);

	return refuse(
		c, SS_TLS_FAIL_NOT_YET_VALID,
		"certificate %s is not yet valid until %s (in %s); check the clock if it should be valid",
		cert_show_subject(who, crt), cert_show_time(when, start), span(ahead, start - c->now));
}

/* Which certificate of the chain it is; one that was not shown is the CA's own. */
static int refuse_time(struct check *c, int32_t error)
{
	bool late = error == SS_TLS_FAIL_EXPIRED;
	char who[CERT_SHOWN];

	for (uint32_t i = 0; i < c->n && i < CERT_MAX_CHAIN; i++) {
		gnutls_x509_crt_t crt;
		bool found = false;
		if (cert_from_der(c->chain[i].data, c->chain[i].len, &crt))
			continue;
		if (late ? cert_not_after(crt) < c->now : cert_not_before(crt) > c->now) {
			found = true;
			late ? refuse_expired(c, crt) : refuse_early(c, crt);
		}
		gnutls_x509_crt_deinit(crt);
		if (found)
			return -EACCES;
	}
	return refuse(c, error, "a certificate %s, above certificate %s: a CA's",
		      late ? "has expired" : "is not yet valid", cert_show_subject(who, c->leaf));
}

/* The issuer that is not known is the one of the last certificate that was shown. */
static int refuse_authority(struct check *c)
{
	uint32_t last = c->n < CERT_MAX_CHAIN ? c->n - 1 : CERT_MAX_CHAIN - 1;
	const char *trust = c->policy->role == SS_TLS_SERVER ? "client_ca_files" : "ca_files";
	char issuer[CERT_SHOWN], who[CERT_SHOWN];
	gnutls_x509_crt_t top = NULL;

	if (cert_from_der(c->chain[last].data, c->chain[last].len, &top))
		top = NULL;
	gnutls_x509_crt_t crt = top ? top : c->leaf;
	bool self_signed = gnutls_x509_crt_check_issuer(crt, crt) != 0;
	refuse(c, SS_TLS_FAIL_UNKNOWN_CA,
	       "certificate signed by unknown authority: issuer %s%s of certificate %s; is its CA in %s?",
	       cert_show_issuer(issuer, crt), self_signed ? " (self-signed)" : "",
	       cert_show_subject(who, c->leaf), trust);
	if (top)
		gnutls_x509_crt_deinit(top);
	return -EACCES;
}

/* ---- what the certificate is for ---- */

static int check_purpose(struct check *c)
{
	bool of_client = c->policy->role == SS_TLS_SERVER;
	const char *needed = of_client ? GNUTLS_KP_TLS_WWW_CLIENT : GNUTLS_KP_TLS_WWW_SERVER;
	const unsigned uses = GNUTLS_KEY_DIGITAL_SIGNATURE |
			      (of_client ? 0u : GNUTLS_KEY_KEY_ENCIPHERMENT | GNUTLS_KEY_KEY_AGREEMENT);
	char oid[128], who[CERT_SHOWN];
	unsigned critical, usage = 0;
	bool any = false, good = false;

	cert_show_subject(who, c->leaf);
	/* one that is trusted by itself is a peer's that made it, as openssl req -x509 does */
	if (gnutls_x509_crt_get_ca_status(c->leaf, &critical) > 0 &&
	    !tls_trust_has(c->policy->trust, c->leaf))
		return refuse(c, SS_TLS_FAIL_PURPOSE,
			      "certificate %s is a CA certificate and cannot identify a peer", who);
	int rc = gnutls_x509_crt_get_key_usage(c->leaf, &usage, &critical);
	if (rc != GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE && (rc || !(usage & uses)))
		return refuse(
			c, SS_TLS_FAIL_PURPOSE,
			"the key usage of certificate %s does not allow TLS: digitalSignature is missing",
			who);
	for (unsigned i = 0; !good; i++) {
		size_t size = sizeof oid;
		rc = gnutls_x509_crt_get_key_purpose_oid(c->leaf, i, oid, &size, &critical);
		if (rc == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
			break;
		any = true;
		if (rc && rc != GNUTLS_E_SHORT_MEMORY_BUFFER)
			break;
		good = rc == 0 && strcmp(oid, needed) == 0;
	}
	if (any && !good)
		return refuse(c, SS_TLS_FAIL_PURPOSE,
			      "certificate %s is not for TLS %ss: its extended key usage lacks %s", who,
			      of_client ? "client" : "server", of_client ? "clientAuth" : "serverAuth");
	return 0;
}

/* ---- whose it is ---- */

/* The names of one kind, CN or dNSName. */
struct names {
	const struct tls_peer_policy *policy;
	const struct names *preferred;     /* if what was chosen there is here, too, it is the choice here */
	const char *match;                 /* the entry of the policy that is one of them */
	char first[TLS_PEER_MAX_NAME + 1]; /* the first that can be an identity */
	bool first_preferred;
	char shown[CERT_SHOWN];   /* the first, for messages */
	char hostile[CERT_SHOWN]; /* one with a NUL or control byte in it */
	size_t n;
};

/* But for the case of ASCII letters, whatever the locale. */
static bool is_same(const char *a, const uint8_t *b, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char x = (unsigned char)a[i], y = b[i];
		bool letter = (x | 0x20) >= 'a' && (x | 0x20) <= 'z';
		if (x != y && !(letter && (x ^ y) == 0x20))
			return false;
	}
	return true;
}

static bool is_name(const char *name, const uint8_t *bytes, size_t len)
{
	return name && *name && strlen(name) == len && is_same(name, bytes, len);
}

static void choose(struct names *names, const uint8_t *bytes, size_t len)
{
	const struct names *preferred = names->preferred;

	if (preferred && is_name(preferred->match, bytes, len))
		names->match = preferred->match;
	if (preferred && !names->first_preferred && is_name(preferred->first, bytes, len)) {
		names->first_preferred = true;
		memcpy(names->first, preferred->first, sizeof names->first);
	}
	if (len && !names->first[0] && len <= TLS_PEER_MAX_NAME && ss_utf8_valid(bytes, len)) {
		memcpy(names->first, bytes, len);
		names->first[len] = '\0';
	}
	for (size_t i = 0; i < names->policy->n_names && !names->match; i++)
		if (is_name(names->policy->names[i], bytes, len))
			names->match = names->policy->names[i];
}

static bool check_one_name(void *arg, const uint8_t *bytes, size_t len)
{
	struct names *names = arg;

	if (names->n++ == 0)
		cert_show_name(names->shown, bytes, len);
	if (!bytes)
		return true;
	for (size_t i = 0; i < len; i++) {
		if (bytes[i] >= 0x20 && bytes[i] != 0x7f)
			continue;
		cert_show_bytes(names->hostile, bytes, len);
		return false;
	}
	choose(names, bytes, len);
	return true;
}

static bool check_dns_name(void *arg, unsigned kind, const uint8_t *bytes, size_t len)
{
	return kind != GNUTLS_SAN_DNSNAME || check_one_name(arg, bytes, len);
}

/* The name is the peer's, if the CAs may vouch for it. */
static int accept_name(struct check *c, const char *name)
{
	char why[256];

	if (*name && tls_trust_allows(c->policy->trust, c->chain, c->n, name, why, sizeof why))
		return refuse(c, SS_TLS_FAIL_NAME, "%s", why);
	if (!c->name)
		return 0;
	if (strlen(name) >= c->name_size)
		return refuse(c, SS_TLS_FAIL_NAME, "the certificate's name is longer than %zu bytes",
			      c->name_size - 1);
	strcpy(c->name, name);
	return 0;
}

static int refuse_sans(struct check *c)
{
	char who[CERT_SHOWN];

	return refuse(c, SS_TLS_FAIL_NAME, "the alternative names of certificate %s cannot be read",
		      cert_show_subject(who, c->leaf));
}

static int refuse_unlisted(struct check *c, const struct names *cn, const struct names *dns)
{
	if (dns->n && cn->match)
		return refuse(
			c, SS_TLS_FAIL_NAME,
			"client certificate DNS name %s not in allowed list; its CN %s does not count, as it "
			"is not among the DNS names",
			dns->shown, cn->shown);
	if (cn->n > 1)
		return refuse(c, SS_TLS_FAIL_NAME,
			      "client certificate CN %s not in allowed list, nor are its other CNs",
			      cn->shown);
	if (cn->n)
		return refuse(c, SS_TLS_FAIL_NAME, "client certificate CN %s not in allowed list", cn->shown);
	if (dns->n)
		return refuse(c, SS_TLS_FAIL_NAME,
			      "client certificate without CN, DNS name %s not in allowed list", dns->shown);
	return refuse(c, SS_TLS_FAIL_NAME,
		      "client certificate has neither CN nor DNS name: not in allowed list");
}

static int check_name(struct check *c)
{
	struct names cn = {.policy = c->policy}, dns = {.policy = c->policy, .preferred = &cn};
	bool listed = c->policy->role == SS_TLS_SERVER && c->policy->n_names > 0;

	cert_each_cn(c->leaf, check_one_name, &cn);
	if (tls_each_san(c->leaf, check_dns_name, &dns) == -EINVAL)
		return refuse_sans(c);
	if (cn.hostile[0] || dns.hostile[0])
		return refuse(c, SS_TLS_FAIL_NAME, "certificate with a NUL or control byte in its name %s",
			      cn.hostile[0] ? cn.hostile : dns.hostile);
	const struct names *names = dns.n ? &dns : &cn;
	if (!listed)
		return accept_name(c, names->first);
	return names->match ? accept_name(c, names->match) : refuse_unlisted(c, &cn, &dns);
}

/* ---- is it the host we called? ---- */

struct listing {
	char text[256];
	size_t n;
	bool partial; /* a wildcard for less than a whole label is among them */
	bool odd;     /* so is what no host is called: with a scheme, a port, a dot at its end */
};

static void list_name(struct listing *l, const uint8_t *bytes, size_t len)
{
	char shown[CERT_SHOWN];
	size_t used = strlen(l->text);

	const uint8_t *star = len ? memchr(bytes, '*', len) : NULL;
	bool whole_label = star == bytes && len > 1 && bytes[1] == '.' && !memchr(bytes + 1, '*', len - 1);
	if (star && !whole_label)
		l->partial = true;
	for (size_t i = 0; i < len; i++)
		l->odd |= strchr(":/ ", bytes[i]) && bytes[i];
	l->odd |= len && bytes[len - 1] == '.';
	if (l->n++ < 4 && cert_show_bytes(shown, bytes, len))
		snprintf(l->text + used, sizeof l->text - used, "%s%s", used ? ", " : "", shown);
}

static void list_address(struct listing *l, const uint8_t *bytes, size_t len)
{
	char shown[INET6_ADDRSTRLEN];
	size_t used = strlen(l->text);

	if (l->n++ >= 4)
		return;
	if ((len != 4 && len != 16) || !inet_ntop(len == 4 ? AF_INET : AF_INET6, bytes, shown, sizeof shown))
		snprintf(shown, sizeof shown, "of %zu bytes", len);
	snprintf(l->text + used, sizeof l->text - used, "%s%s", used ? ", " : "", shown);
}

/* The first, as it looks like a host at times. */
static void list_other(struct listing *l, const char *what, const uint8_t *bytes, size_t len)
{
	char shown[CERT_SHOWN];

	if (l->n++ == 0)
		snprintf(l->text, sizeof l->text, " (%s %s does not count)", what,
			 cert_show_bytes(shown, bytes, len));
}

struct listings {
	struct listing dns, ip, other;
};

static bool list(void *arg, unsigned kind, const uint8_t *bytes, size_t len)
{
	struct listings *all = arg;

	if (kind == GNUTLS_SAN_DNSNAME)
		list_name(&all->dns, bytes, len);
	else if (kind == GNUTLS_SAN_IPADDRESS)
		list_address(&all->ip, bytes, len);
	else if (kind == GNUTLS_SAN_URI)
		list_other(&all->other, "URI", bytes, len);
	else if (kind == GNUTLS_SAN_RFC822NAME)
		list_other(&all->other, "mail address", bytes, len);
	return true;
}

static bool is_good_for_host(struct check *c, const struct ss_host_name *host, const struct listing *dns)
{
	if (host->address_len)
		return gnutls_x509_crt_check_ip(c->leaf, host->address, host->address_len, 0) != 0;
	/* without DNS names GnuTLS would look at the CN, which RFC 6125 gave up and others do not */
	const unsigned flags = GNUTLS_VERIFY_DO_NOT_ALLOW_IP_MATCHES |
			       (dns->partial ? GNUTLS_VERIFY_DO_NOT_ALLOW_WILDCARDS : 0u);
	return dns->n && gnutls_x509_crt_check_hostname2(c->leaf, host->text, flags) != 0;
}

/* Names of the wrong kind can look right, so the kinds are named. */
static int refuse_host(struct check *c, const struct ss_host_name *host, const struct listings *all)
{
	const struct listing *dns = &all->dns, *ip = &all->ip;
	const char *other = all->other.text;
	char shown[CERT_SHOWN];

	cert_show_bytes(shown, host->text, strlen(host->text));
	if (host->address_len)
		return refuse(
			c, SS_TLS_FAIL_NAME,
			"certificate is valid for %s%s%s%s%s%s%s, not address %s; an address needs a subject "
			"alternative name of its own kind: add IP:%s",
			dns->n ? "DNS name " : "", dns->text, dns->n > 4 ? ", ..." : "",
			ip->n         ? dns->n ? ", address " : "address "
			: dns->n == 0 ? "no address"
				      : "",
			ip->text, ip->n > 4 ? ", ..." : "", other, shown, host->text);
	if (dns->n == 0)
		return refuse(
			c, SS_TLS_FAIL_NAME,
			"certificate is valid for no DNS name%s%s%s, not %s; its CN is ignored, it needs a "
			"subject alternative name: add DNS:%s",
			ip->n ? ", only for address " : "", ip->text, other, shown, host->text);
	if (dns->odd)
		return refuse(c, SS_TLS_FAIL_NAME,
			      "certificate is valid for %s%s%s, not %s; a DNS name stands there without "
			      "scheme, port, blank or a dot at its end: add DNS:%s",
			      dns->text, dns->n > 4 ? ", ..." : "", other, shown, host->text);
	return refuse(c, SS_TLS_FAIL_NAME, "certificate is valid for %s%s%s, not %s", dns->text,
		      dns->n > 4 ? ", ..." : "", other, shown);
}

static int check_host(struct check *c)
{
	struct listings all = {0};
	struct ss_host_name host = {.text = ""};

	if (tls_each_san(c->leaf, list, &all) == -EINVAL)
		return refuse_sans(c);
	if (c->host && ss_host_name_read(c->host, strlen(c->host), &host) == 0 &&
	    is_good_for_host(c, &host, &all.dns))
		return 0;
	return refuse_host(c, &host, &all);
}

/* ---- the whole ---- */

/* The library's verdict in our words; our own checks may know more about it. */
static int refuse_error(struct check *c, int32_t error)
{
	char who[CERT_SHOWN], why[256];

	switch (error) {
	case SS_TLS_FAIL_UNKNOWN_CA:
		return refuse_authority(c);
	case SS_TLS_FAIL_EXPIRED:
	case SS_TLS_FAIL_NOT_YET_VALID:
		return refuse_time(c, error);
	case SS_TLS_FAIL_PURPOSE:
		return check_purpose(c) ? -EACCES
					: refuse(c, error, "certificate %s is not valid for this purpose",
						 cert_show_subject(who, c->leaf));
	case SS_TLS_FAIL_NAME:
		return c->policy->role == SS_TLS_CLIENT && check_host(c)
			       ? -EACCES
			       : refuse(c, error, "certificate %s has the wrong name",
					cert_show_subject(who, c->leaf));
	default:
		if (tls_trust_find_weak(c->policy->trust, c->chain, c->n, why, sizeof why))
			return refuse(c, SS_TLS_FAIL_OTHER, "%s", why);
		return refuse(c, SS_TLS_FAIL_OTHER, "certificate %s does not verify",
			      cert_show_subject(who, c->leaf));
	}
}

static int check_revocation(struct check *c)
{
	char why[512];
	int32_t fail;
	int rc = tls_trust_check_revoked(c->policy->trust, c->chain, c->n, c->now, &fail, why, sizeof why);

	return rc ? refuse(c, fail, "%s", why) : 0;
}

static int check_leaf(struct check *c, int32_t error)
{
	int rc;

	if (error != -1)
		return refuse_error(c, error);
	if (cert_not_after(c->leaf) < c->now)
		return refuse_expired(c, c->leaf);
	if (cert_not_before(c->leaf) > c->now)
		return refuse_early(c, c->leaf);
	rc = check_revocation(c);
	if (rc == 0)
		rc = check_purpose(c);
	if (rc == 0 && c->policy->role == SS_TLS_CLIENT)
		rc = check_host(c);
	return rc ? rc : check_name(c);
}

int tls_peer_check(const struct tls_peer_policy *policy, const struct ss_der *chain, uint32_t n,
		   int32_t error, const char *host, int64_t now, char *name, size_t name_size, int32_t *fail,
		   char *why, size_t why_size)
{
	int32_t ignored;
	char nothing[1];
	struct check c = {
		.policy = policy,
		.chain = chain,
		.n = n,
		.host = host,
		.now = now,
		.name = name_size ? name : NULL,
		.name_size = name_size,
		.fail = fail ? fail : &ignored,
		.why = why && why_size ? why : nothing,
		.why_size = why && why_size ? why_size : sizeof nothing,
	};

	c.why[0] = '\0';
	if (c.name)
		c.name[0] = '\0';
	if (error == SS_TLS_FAIL_VERSION)
		return refuse(&c, error, "the peer offers no TLS version from %s on",
			      policy->min_version >= 0x0304 ? "1.3" : "1.2");
	if (n == 0 && error != -1 && error != SS_TLS_FAIL_NO_CERT)
		return refuse(&c, error > 0 && error < SS_TLS_FAILS ? error : SS_TLS_FAIL_OTHER,
			      "the TLS handshake failed before the peer showed a certificate");
	if (policy->role == SS_TLS_CLIENT ? policy->flags & SS_TLS_INSECURE
					  : !(policy->flags & SS_TLS_VERIFY_PEER))
		return 0;
	if (n == 0 && error == -1 && policy->role == SS_TLS_SERVER && !(policy->flags & SS_TLS_REQUIRE_PEER))
		return 0;
	if (n == 0 || error == SS_TLS_FAIL_NO_CERT)
		return refuse(&c, SS_TLS_FAIL_NO_CERT, "peer did not return a certificate");
	if (cert_from_der(chain[0].data, chain[0].len, &c.leaf))
		return refuse(&c, SS_TLS_FAIL_OTHER, "the peer's certificate cannot be read");
	int rc = check_leaf(&c, error);
	gnutls_x509_crt_deinit(c.leaf);
	return rc;
}

int tls_peer_recheck(const struct tls_peer_policy *policy, struct tls_trust *trust,
		     const struct tls_known_peer *peer, int64_t now, int32_t *fail, char *why,
		     size_t why_size)
{
	bool verified = policy->role == SS_TLS_CLIENT ? !(policy->flags & SS_TLS_INSECURE)
						      : (policy->flags & SS_TLS_VERIFY_PEER) != 0;
	char name[TLS_PEER_MAX_NAME + 1], shown[CERT_SHOWN];
	int32_t error = -1;

	if (verified && peer->n)
		error = trust ? tls_trust_verify(trust, peer->chain, peer->n) : SS_TLS_FAIL_UNKNOWN_CA;
	int rc = tls_peer_check(policy, peer->chain, peer->n, error, peer->host, now, name, sizeof name, fail,
				why, why_size);
	if (rc || !peer->name || strcasecmp(peer->name, name) == 0)
		return rc;
	*fail = SS_TLS_FAIL_NAME;
	snprintf(why, why_size, "the peer is no longer allowed as %s",
		 cert_show_bytes(shown, peer->name, strlen(peer->name)));
	return -EACCES;
}
