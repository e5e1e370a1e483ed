/* SPDX-License-Identifier: MIT */
/* machine - see machine.h. */
#include "core/doctor/machine.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/timex.h>
#include "core/admin/clock.h"
#include "core/config/claims.h"
#include "core/config/config.h"
#include "core/config/descriptors.h"
#include "core/doctor/folders.h"
#include "core/doctor/ports.h"
#include "core/doctor/probes.h"

static const char set_clock[] =
	"timedatectl set-ntp true, or chrony; in a container that of its machine counts";

/* ---- clock ---- */

/* Nothing that is here can have been written in the future. */
static void compare_file(struct probe *p, const char *file)
{
	const int64_t now = (int64_t)(clock_wall() / 1000000000u);
	struct stat st;

	if (file && stat(file, &st) == 0 && st.st_mtime > now + 60)
		findings_add(&p->found, FINDING_PROBLEM, p->check, p->subject, set_clock,
			     "it is behind: %s was last written %lld minutes from now", file,
			     (long long)(st.st_mtime - now) / 60);
}

static void examine_clock(struct probe *p)
{
	struct timex state = {0};
	const int rc = adjtimex(&state);

	compare_file(p, p->what);
	if (rc < 0)
		findings_add(&p->found, FINDING_WARNING, p->check, p->subject, NULL,
			     "the kernel does not say whether a time service keeps it right: %s",
			     strerror(errno));
	else if (rc == TIME_ERROR || state.status & STA_UNSYNC)
		findings_add(&p->found, FINDING_WARNING, p->check, p->subject, set_clock,
			     "no time service keeps it right");
	else
		findings_add(&p->found, FINDING_OK, p->check, p->subject, NULL,
			     "a time service keeps it right, within %ld ms", state.maxerror / 1000);
}

/* ---- keys ---- */

static void examine_key(struct probe *p)
{
	const char *file = p->what;
	char remedy[5000];
	struct stat st;

	snprintf(remedy, sizeof remedy, "chmod 600 %s", file);
	if (stat(file, &st) < 0)
		return; /* which was said of the configuration */
	if (st.st_mode & (S_IRWXO | S_IWGRP))
		findings_add(&p->found, FINDING_PROBLEM, p->check, p->subject, remedy,
			     "others may read or change it, as its mode is %04o",
			     (unsigned)st.st_mode & 07777);
	else if (st.st_mode & S_IRWXG)
		findings_add(&p->found, FINDING_WARNING, p->check, p->subject, remedy,
			     "its group may read it, as its mode is %04o", (unsigned)st.st_mode & 07777);
	else
		findings_add(&p->found, FINDING_OK, p->check, p->subject, NULL, "only its owner may read it");
}

static int add_key(struct probes *probes, const char *file)
{
	char subject[4200];
	char *what;

	if (!file)
		return 0;
	snprintf(subject, sizeof subject, "key %s", file);
	what = strdup(file);
	return what ? probes_add(probes, "key", subject, examine_key, what, free) : -ENOMEM;
}

/* ---- limits ---- */

struct limits {
	uint64_t wanted, left;
};

static void examine_limits(struct probe *p)
{
	const struct limits *l = p->what;

	if (l->wanted > l->left)
		findings_add(&p->found, FINDING_WARNING, p->check, p->subject,
			     "LimitNOFILE= of systemd, the ulimit nofile of a container",
			     "components may want %" PRIu64 ", and the limit leaves them %" PRIu64, l->wanted,
			     l->left);
	else
		findings_add(&p->found, FINDING_OK, p->check, p->subject, NULL,
			     "components may want %" PRIu64 ", and the limit leaves them %" PRIu64, l->wanted,
			     l->left);
}

static int add_limits(const struct config *config, struct probes *probes)
{
	struct limits *l = malloc(sizeof *l);

	if (!l)
		return -ENOMEM;
	*l = (struct limits){.wanted = claims_descriptors(config->claims, 0), .left = descriptors_left()};
	return probes_add(probes, "limits", "open files", examine_limits, l, free);
}

int machine_probes(const struct config *config, struct probes *probes)
{
	char *file = strdup(config->doc->file);
	int rc = file ? probes_add(probes, "clock", "of this machine", examine_clock, file, free) : -ENOMEM;

	if (rc == 0)
		rc = port_probes(config, probes);
	if (rc == 0)
		rc = folder_probes(config, probes);
	for (size_t i = 0; rc == 0 && i < TLS_ROLES; i++)
		rc = add_key(probes, config->tls.roles[i].key.path);
	if (rc == 0)
		rc = add_key(probes, config->admin.key_file);
	if (rc == 0)
		rc = add_limits(config, probes);
	return rc;
}
