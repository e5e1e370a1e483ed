/* SPDX-License-Identifier: MIT */
/* admin_port - see admin_port.h. */
#include "core/tls/admin_port.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <gnutls/x509.h>
#include "core/admin/admin.h"
#include "core/admin/clock.h"
#include "core/admin/health.h"
#include "core/admin/log.h"
#include "core/config/config.h"
#include "core/tls/cert.h"

#define TROUBLE "admin.tls"

/* ---- the files ---- */

static const char *path_of(const struct admin_port *p, size_t file)
{
	const struct admin_config *c = &p->config->admin;

	return file == ADMIN_CERT ? c->cert_file : file == ADMIN_KEY ? c->key_file : c->client_ca_file;
}

static void stamp(const struct admin_port *p, struct tls_stamp stamps[ADMIN_FILES])
{
	for (size_t i = 0; i < ADMIN_FILES; i++)
		stamps[i] = path_of(p, i) ? tls_stamp_at(path_of(p, i)) : (struct tls_stamp){0};
}

static void forget(char *pem[ADMIN_FILES])
{
	if (pem[ADMIN_KEY])
		explicit_bzero(pem[ADMIN_KEY], strlen(pem[ADMIN_KEY]));
	for (size_t i = 0; i < ADMIN_FILES; i++) {
		free(pem[i]);
		pem[i] = NULL;
	}
}

/* Others could speak for the host. */
static int check_key(const char *file, char why[256])
{
	struct stat st;

	if (stat(file, &st) < 0 || !(st.st_mode & 07))
		return 0;
	snprintf(why, 256, "%.150s: others may read or write this key (mode %04o); chmod 600 it", file,
		 (unsigned)st.st_mode & 07777);
	return -EPERM;
}

/* Would a TLS server take them? */
static int try_files(const struct admin_port *p, char *const pem[ADMIN_FILES], char why[256])
{
	gnutls_certificate_credentials_t trial;
	const gnutls_datum_t cert = cert_datum(pem[ADMIN_CERT], strlen(pem[ADMIN_CERT])),
			     key = cert_datum(pem[ADMIN_KEY], strlen(pem[ADMIN_KEY]));
	int rc = gnutls_certificate_allocate_credentials(&trial);

	if (rc < 0)
		return -ENOMEM;
	rc = gnutls_certificate_set_x509_key_mem(trial, &cert, &key, GNUTLS_X509_FMT_PEM);
	if (rc < 0)
		snprintf(why, 256, "%.100s and %.100s: %s", path_of(p, ADMIN_CERT), path_of(p, ADMIN_KEY),
			 gnutls_strerror(rc));
	if (rc >= 0 && pem[ADMIN_CA]) {
		const gnutls_datum_t ca = cert_datum(pem[ADMIN_CA], strlen(pem[ADMIN_CA]));
		rc = gnutls_certificate_set_x509_trust_mem(trial, &ca, GNUTLS_X509_FMT_PEM) > 0 ? 0 : -1;
		if (rc < 0)
			snprintf(why, 256, "%.150s: holds no CA that can be used", path_of(p, ADMIN_CA));
	}
	gnutls_certificate_free_credentials(trial);
	return rc < 0 ? -EINVAL : 0;
}

/* 0; -EAGAIN: somebody is writing to one; -errno with why. */
static int read_once(const struct admin_port *p, char *pem[ADMIN_FILES], struct tls_stamp stamps[ADMIN_FILES],
		     char why[256])
{
	struct tls_stamp after[ADMIN_FILES];
	int rc = check_key(path_of(p, ADMIN_KEY), why);

	stamp(p, stamps);
	for (size_t i = 0; i < ADMIN_FILES && rc == 0; i++) {
		const char *reason = NULL;
		size_t len;
		if (!path_of(p, i))
			continue;
		rc = file_read(path_of(p, i), TLS_MAX_FILE, &pem[i], &len, &reason);
		if (rc)
			snprintf(why, 256, "%.150s: %s", path_of(p, i), reason ? reason : strerror(-rc));
	}
	stamp(p, after);
	if (!tls_stamps_equal(stamps, after, ADMIN_FILES)) {
		snprintf(why, 256, "%.150s: is being written to", path_of(p, ADMIN_CERT));
		rc = -EAGAIN;
	}
	return rc ? rc : try_files(p, pem, why);
}

/* All of them as they were at one moment: again if one was changed meanwhile. */
static int read_files(const struct admin_port *p, char *pem[ADMIN_FILES],
		      struct tls_stamp stamps[ADMIN_FILES], char why[256])
{
	int rc = -EAGAIN;

	for (int tries = 3; tries > 0 && rc == -EAGAIN; tries--) {
		forget(pem);
		rc = read_once(p, pem, stamps, why);
	}
	return rc;
}

static struct admin_tls tls_of(const struct admin_port *p, char *const pem[ADMIN_FILES])
{
	const struct admin_config *c = &p->config->admin;

	return (struct admin_tls){.cert = pem[ADMIN_CERT],
				  .key = pem[ADMIN_KEY],
				  .ca = pem[ADMIN_CA],
				  .writers = (const char *const *)c->writers,
				  .n_writers = c->n_writers};
}

/* Keep what they are compared with; the key is its certificate's. */
static void keep(struct admin_port *p, char *pem[ADMIN_FILES])
{
	forget(p->pem);
	memcpy(p->pem, pem, sizeof p->pem);
	p->pem[ADMIN_KEY] = NULL;
	if (pem[ADMIN_KEY])
		explicit_bzero(pem[ADMIN_KEY], strlen(pem[ADMIN_KEY]));
	free(pem[ADMIN_KEY]);
	memset(pem, 0, sizeof p->pem);
}

/* ---- open and renewed ---- */

int admin_port_open(struct admin_port *p, struct ev_loop *ev, const struct config *config,
		    struct health *health, struct admin_settings *settings, void *arg)
{
	char *pem[ADMIN_FILES] = {NULL}, why[256] = "out of memory";
	struct admin_tls tls;
	int rc = 0;

	p->config = config_ref(config);
	p->health = health;
	settings->listen = config->admin_listen;
	if (config->admin.cert_file) {
		rc = read_files(p, pem, p->loaded, why);
		tls = tls_of(p, pem);
		settings->tls = &tls;
	}
	if (rc == 0)
		rc = admin_start(ev, settings, arg, why, &p->now);
	settings->tls = NULL;
	if (rc)
		log_error("Cannot open the admin port; set \"admin\": {\"listen\": ...} error=\"%s\"", why);
	else
		keep(p, pem);
	forget(pem);
	memcpy(p->seen, p->loaded, sizeof p->seen);
	return rc;
}

static bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static void log_renewal(const struct admin_port *p, bool certificate)
{
	char why[256], who[CERT_SHOWN], when[CERT_SHOWN], shown[512], path[512];
	struct cert_list list;

	if (!certificate) {
		log_info("Reloaded client CAs of the admin port without downtime");
		return;
	}
	if (cert_list_load(p->pem[ADMIN_CERT], strlen(p->pem[ADMIN_CERT]), CERT_MAX_CHAIN, &list, why,
			   sizeof why))
		return;
	log_info("Reloaded the certificate of the admin port without downtime path=%s subject=%s expiry=%s",
		 log_value(path, sizeof path, path_of(p, ADMIN_CERT)),
		 log_value(shown, sizeof shown, cert_show_subject(who, list.certs[0])),
		 cert_show_time(when, cert_not_after(list.certs[0])));
	cert_list_free(&list);
}

/* One after the other: who is still served with the files before the last ones is not any more. */
static int renew(struct admin_port *p, char *pem[ADMIN_FILES], char why[256])
{
	const bool certificate = !same_text(pem[ADMIN_CERT], p->pem[ADMIN_CERT]);
	const struct admin_tls tls = tls_of(p, pem);
	struct admin *next;

	if (!certificate && same_text(pem[ADMIN_CA], p->pem[ADMIN_CA]))
		return 0;
	if (p->before && admin_owes_answer(p->before))
		return -EAGAIN;
	int rc = admin_renew(p->now, &tls, &next);
	if (rc) {
		snprintf(why, 256, "%s", strerror(-rc));
		return rc;
	}
	admin_stop(p->before);
	p->before = p->now;
	p->now = next;
	keep(p, pem);
	log_renewal(p, certificate);
	return 0;
}

static void report(struct admin_port *p, const char *why)
{
	char text[sizeof p->failure + 64], shown[512];

	if (strcmp(p->failure, why) == 0)
		return;
	snprintf(p->failure, sizeof p->failure, "%s", why);
	snprintf(text, sizeof text, "changed certificate files cannot be used: %s", why);
	health_degrade(p->health, TROUBLE, *why ? text : NULL);
	if (*why)
		log_error("Changed certificate files of the admin port cannot be used, keeping the old ones "
			  "error=%s",
			  log_value(shown, sizeof shown, why));
}

void admin_port_reload(struct admin_port *p)
{
	char *pem[ADMIN_FILES] = {NULL}, why[256] = "out of memory";
	struct tls_stamp stamps[ADMIN_FILES];

	if (!p->now || !path_of(p, ADMIN_CERT))
		return;
	int rc = read_files(p, pem, stamps, why);
	if (rc == 0)
		rc = renew(p, pem, why);
	forget(pem);
	if (rc == -EAGAIN) /* the next poll will find it finished */
		return;
	memcpy(p->loaded, stamps, sizeof p->loaded);
	report(p, rc ? why : "");
}

/* All there, and old enough or as they were at the last poll: nobody is writing to them. */
static bool is_settled(const struct admin_port *p, const struct tls_stamp found[ADMIN_FILES])
{
	const int64_t limit_ns = (int64_t)clock_wall() - 1000000000;
	bool settled = true;

	for (size_t i = 0; i < ADMIN_FILES; i++)
		settled = settled && found[i].there == (path_of(p, i) != NULL) &&
			  found[i].changed_ns < limit_ns;
	return settled || tls_stamps_equal(found, p->seen, ADMIN_FILES);
}

void admin_port_poll(struct admin_port *p)
{
	struct tls_stamp found[ADMIN_FILES];

	if (p->before && admin_is_idle(p->before)) {
		admin_stop(p->before);
		p->before = NULL;
	}
	if (!p->now || !path_of(p, ADMIN_CERT))
		return;
	stamp(p, found);
	const bool changed = !tls_stamps_equal(found, p->loaded, ADMIN_FILES);
	if (changed && is_settled(p, found))
		admin_port_reload(p);
	memcpy(p->seen, found, sizeof p->seen);
}

void admin_port_close(struct admin_port *p)
{
	admin_stop(p->before);
	admin_stop(p->now);
	p->before = p->now = NULL;
	forget(p->pem);
	config_free((struct config *)(uintptr_t)p->config);
	p->config = NULL;
}
