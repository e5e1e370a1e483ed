/* SPDX-License-Identifier: MIT */
/* cnf - see cnf.h. */
#include "cnf.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/base/file_atomic.h>
#include "pki/fileset.h"

static char *trim(char *text)
{
	text += strspn(text, " \t");
	size_t n = strcspn(text, "#\r\n");
	while (n > 0 && (text[n - 1] == ' ' || text[n - 1] == '\t'))
		n--;
	text[n] = '\0';
	return text;
}

/* "DNS.1 = a", "IP.1 = 192.0.2.1" below [alt_names]; what else is in it is for openssl. */
int cnf_read(const char *path, struct names *out, struct fault *f)
{
	struct fault inner;
	char *bytes, *at, *line, text[300];
	size_t len, number = 0;
	bool inside = false, was_dns;
	int rc = ss_file_read(AT_FDCWD, path, 1 << 20, &bytes, &len, NULL);

	if (rc < 0)
		return rc == -ENOENT || rc == -ENOMEM
			       ? rc
			       : refuse(f, "%s cannot be read: %s", path, strerror(-rc));
	for (at = bytes; rc == 0 && (line = strsep(&at, "\n"));) {
		number++;
		line = trim(line);
		char *equals = strchr(line, '=');
		if (*line == '[')
			inside = strncmp(line + 1 + strspn(line + 1, " \t"), "alt_names", 9) == 0;
		if (!inside || !equals)
			continue;
		bool ip = strncmp(line, "IP", 2) == 0, dns = strncmp(line, "DNS", 3) == 0;
		if (!ip && !dns)
			rc = refuse(f, "%s:%zu: neither DNS nor IP: \"%s\"", path, number, line);
		snprintf(text, sizeof text, "%s:%s", ip ? "IP" : "DNS", trim(equals + 1));
		if (rc == 0)
			rc = names_add(out, text, &was_dns, &inner);
		if (rc == -EINVAL && (ip || dns))
			rc = refuse(f, "%s:%zu: %s", path, number, inner.text);
		else if (rc == 0 && was_dns)
			fprintf(stderr,
				"semstreams pki: warning: %s:%zu: an address is no DNS name: it becomes an "
				"IP name\n",
				path, number);
	}
	free(bytes);
	return rc ? rc : out->n ? 0 : refuse(f, "%s: there are no names below [alt_names]", path);
}

int cnf_write(const char *path, const char *subject, const struct names *names, struct fault *f)
{
	struct fileset set = {0};
	struct ss_strbuf *out = fileset_add(&set, path, 0644);
	int n_dns = 0, n_ip = 0;

	ss_strbuf_printf(
		out,
		"# The names of this certificate: change [alt_names], then \"semstreams pki renew\".\n"
		"[req]\nprompt = no\ndistinguished_name = subject\nreq_extensions = extensions\n\n"
		"[subject]\nCN = %s\n\n[extensions]\nsubjectAltName = @alt_names\n\n[alt_names]\n",
		subject);
	for (size_t i = 0; i < names->n; i++)
		ss_strbuf_printf(out, "%s.%d = %s\n", names->v[i].address_len ? "IP" : "DNS",
				 names->v[i].address_len ? ++n_ip : ++n_dns, names->v[i].text);
	int rc = fileset_write(&set, f);
	fileset_done(&set);
	return rc;
}
