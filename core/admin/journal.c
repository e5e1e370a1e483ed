/* SPDX-License-Identifier: MIT */
#include "core/admin/journal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

#define SOCKET          "/run/systemd/journal/socket"
#define NAME_MAX_LENGTH 64 /* journald drops fields with longer names */

/* JOURNAL_STREAM is inherited, so it alone proves nothing. */
bool journal_is(int fd)
{
	const char *stream = getenv("JOURNAL_STREAM");
	char own[64];
	struct stat st;
	if (!stream || fstat(fd, &st) < 0)
		return false;
	snprintf(own, sizeof own, "%llu:%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
	return strcmp(stream, own) == 0;
}

int journal_open(struct journal *j)
{
	/* as long as a reader of stderr is waited for */
	struct timeval limit = {.tv_usec = 200000};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), size = 1 << 20;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	j->fd = fd;
	return 0;
}

void journal_name(struct journal *j, const char *component, const char *type)
{
	size_t i = 0;

	while (i < JOURNAL_PLUGINS && strcmp(j->plugins[i].component, component) != 0)
		i++;
	if (i == JOURNAL_PLUGINS)
		i = j->next_plugin++ % JOURNAL_PLUGINS;
	snprintf(j->plugins[i].component, sizeof j->plugins[i].component, "%s", component);
	snprintf(j->plugins[i].type, sizeof j->plugins[i].type, "%s", type);
}

/* A value of one line follows the name and '='; any other one a line feed and its length in eight bytes. */
static void put(struct journal *j, const char *name, const char *value, size_t n)
{
	const size_t name_len = strlen(name);
	const bool plain = !memchr(value, '\n', n);
	unsigned char length[8];

	if (j->n + name_len + 1 + sizeof length + n + 1 > sizeof j->entry)
		return;
	char *at = j->entry + j->n;
	memcpy(at, name, name_len);
	at += name_len;
	*at++ = plain ? '=' : '\n';
	for (size_t i = 0; i < sizeof length; i++)
		length[i] = (unsigned char)((uint64_t)n >> 8 * i);
	if (!plain) {
		memcpy(at, length, sizeof length);
		at += sizeof length;
	}
	memcpy(at, value, n);
	at += n;
	*at++ = '\n';
	j->n = (size_t)(at - j->entry);
}

static uint64_t hash(uint64_t h, const char *text, size_t n)
{
	while (n--)
		h = (h ^ (unsigned char)*text++) * UINT64_C(0x100000001b3);
	return h;
}

/* Its id is the same for the same message, whatever its pairs say. */
void journal_begin(struct journal *j, const char *message, size_t n)
{
	char id[33];

	snprintf(id, sizeof id, "%016" PRIx64 "%016" PRIx64, hash(UINT64_C(0xcbf29ce484222325), message, n),
		 hash(UINT64_C(0x9ae16a3b2f90404f), message, n));
	j->n = 0;
	put(j, "MESSAGE_ID", id, 32);
}

void journal_pair(struct journal *j, const char *key, size_t key_len, const char *value, size_t n)
{
	char name[NAME_MAX_LENGTH + 1] = "SEMSTREAMS_";
	const size_t prefix = strlen(name);

	if (prefix + key_len > NAME_MAX_LENGTH)
		return;
	for (size_t i = 0; i < key_len; i++) {
		const char c = key[i];
		name[prefix + i] = c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c == '.' ? '_' : c;
	}
	name[prefix + key_len] = '\0';
	put(j, name, value, n);
}

int journal_send(struct journal *j, int priority, const char *component, const char *text, size_t n)
{
	static const struct sockaddr_un to = {.sun_family = AF_UNIX, .sun_path = SOCKET};
	const char digit = (char)('0' + priority);
	ssize_t sent;

	put(j, "PRIORITY", &digit, 1);
	put(j, "SYSLOG_IDENTIFIER", "semstreams", 10);
	if (component)
		journal_pair(j, "component", 9, component, strlen(component));
	for (size_t i = 0; component && i < JOURNAL_PLUGINS; i++)
		if (strcmp(j->plugins[i].component, component) == 0)
			journal_pair(j, "plugin", 6, j->plugins[i].type, strlen(j->plugins[i].type));
	put(j, "MESSAGE", text, n);
	do
		sent = sendto(j->fd, j->entry, j->n, MSG_NOSIGNAL | (j->stuck ? MSG_DONTWAIT : 0),
			      (const struct sockaddr *)&to, sizeof to);
	while (sent < 0 && errno == EINTR);
	j->stuck = sent < 0 && errno == EAGAIN;
	return sent < 0 ? -errno : 0;
}
