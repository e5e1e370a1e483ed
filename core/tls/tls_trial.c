/* SPDX-License-Identifier: MIT */
/* tls_trial - see tls_trial.h. */
#include "core/tls/tls_trial.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define NAME_OF(entry) #entry
#define NAME(entry)    NAME_OF(entry)

static void explain(const char *file, const char *reason, char *why, size_t why_size)
{
	/* the loader of libraries has no error codes; ENFILE's text begins as this one */
	if (strstr(reason, strerror(EMFILE)))
		snprintf(why, why_size,
			 "TLS needs \"%s\", and no more files can be open; raise the limit RLIMIT_NOFILE "
			 "(LimitNOFILE of systemd, the ulimit nofile of a container)",
			 file);
	else
		snprintf(why, why_size,
			 "TLS needs \"%s\", which cannot be loaded (%s); it is a part of semstreams: install "
			 "that again, whole",
			 file, reason);
}

/* OpenSSL leaves functions to be called at exit, so the module stays where it is. */
static const struct tls_trial *load(const char *file, char *why, size_t why_size)
{
	void *module = dlopen(file, RTLD_NOW | RTLD_LOCAL);
	const struct tls_trial *trial = module ? dlsym(module, NAME(TLS_TRIAL_ENTRY)) : NULL;

	if (!trial) {
		const char *reason = dlerror();
		explain(file, reason ? reason : "unknown reason", why, why_size);
		return NULL;
	}
	if (trial->struct_size != sizeof *trial || strcmp(trial->version, PACKAGE_VERSION) != 0) {
		snprintf(
			why, why_size,
			"TLS needs \"%s\", which is a part of semstreams %.40s, but this is %s; install both "
			"from one build, and restart what runs",
			file, trial->version, PACKAGE_VERSION);
		return NULL;
	}
	return trial;
}

const struct tls_trial *tls_trial_open(const char *file, char *why, size_t why_size)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static const struct tls_trial *opened;

	pthread_mutex_lock(&lock);
	if (!opened)
		opened = load(file ? file : PKGLIBDIR "/tls_openssl.so", why, why_size);
	const struct tls_trial *trial = opened;
	pthread_mutex_unlock(&lock);
	return trial;
}
