/* SPDX-License-Identifier: MIT */
/* fuzz_pki_request - any bytes as a certificate signing request, PEM or DER: what is taken is harmless to
 * show and can be put into a certificate. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "pki/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const char *text, size_t size)
{
	const char *end = memchr(text, 0, size);

	if (!end)
		abort();
	for (; text < end; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct request r;
	struct fault f = {""};
	int rc = request_read((const char *)data, size, &r, &f);

	check_text(f.text, sizeof f.text);
	if (rc) {
		if (r.public || r.names.v || (rc == -EINVAL && !*f.text))
			abort();
		return 0;
	}
	check_text(r.subject, sizeof r.subject);
	if ((*r.subject && name_fault(r.subject)) || r.names.n > NAMES_MAX || !r.public)
		abort();
	for (size_t i = 0; i < r.names.n; i++) {
		check_text(r.names.v[i].text, sizeof r.names.v[i].text);
		if (names_have(&(struct names){r.names.v, i}, &r.names.v[i]))
			abort(); /* each once */
	}
	request_done(&r);
	return 0;
}
