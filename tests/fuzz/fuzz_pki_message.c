/* SPDX-License-Identifier: MIT */
/* fuzz_pki_message - any bytes as a request over HTTP, as its body, as a reply, and as a page of
 * provisioners: what is taken is within its limits, and a reply that is written again reads as the same. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "pki/join/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_request(const char *bytes, size_t size)
{
	struct message_request m, shorter;
	int rc = message_request_read(bytes, size, &m);

	if (rc != 0 && rc != -EAGAIN && (rc < 400 || rc > 599))
		abort();
	if (rc == 0 &&
	    (m.body < bytes || m.len > MESSAGE_BODY_MAX || m.len > size - (size_t)(m.body - bytes)))
		abort();
	if (rc == 0 && m.route != MESSAGE_HEALTH && !message_tenant_ok(m.name))
		abort();
	/* what is whole is not so without its last byte */
	size_t end = rc == 0 ? (size_t)(m.body - bytes) + m.len : 0;
	if (end && message_request_read(bytes, end - 1, &shorter) != -EAGAIN)
		abort();
}

static void check_reply(const char *bytes, size_t size)
{
	struct message_reply r, again;
	struct ss_strbuf text = {0};
	struct fault f = {""};

	if (message_reply_read(bytes, size, &r, &f)) {
		if (r.chain.v || r.root.v)
			abort();
		return;
	}
	message_chain_check(&r.chain, r.root.v[0], NULL, &f);
	if (message_reply_put(&r.chain, r.root.v[0], &text) == 0 &&
	    message_reply_read(text.bytes, text.len, &again, &f) == 0) {
		if (again.chain.n > r.chain.n || !gnutls_x509_crt_equals(again.root.v[0], r.root.v[0]))
			abort();
		message_reply_done(&again);
	}
	ss_strbuf_done(&text);
	message_reply_done(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *bytes = (const char *)data;
	struct message_provisioner p;
	struct fault f = {""};
	char *csr = NULL;

	check_request(bytes, size);
	check_reply(bytes, size);
	if (message_csr(bytes, size, &csr, &f) == 0 && !csr)
		abort();
	free(csr);
	message_provisioner_read(bytes, size, "iot-bridge", &p, &f);
	if (!memchr(p.cursor, 0, sizeof p.cursor))
		abort();
	free(p.key);
	return 0;
}
