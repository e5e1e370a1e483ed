/* SPDX-License-Identifier: MIT */
/*
 * layout - the plugin ABI's structs, member by member: a plugin built years ago relies on these numbers, so
 * they may be added to and never changed.  Prints TAP.  The numbers hold where pointers have eight bytes.
 */
#include <semstreams/plugin.h>
#include <semstreams/ext/attributes.h>
#include <semstreams/ext/fields.h>
#include <semstreams/ext/handover.h>
#include <semstreams/ext/loop.h>
#include <semstreams/ext/loop-libev.h>
#include <semstreams/ext/positions.h>
#include <semstreams/ext/tls.h>
#include <semstreams/ext/tls-provider.h>
#include <stdio.h>

/* A hidden gap at the end would let a new small member pass for one that was always there. */
#define NO_TAIL_PADDING(type, last)                                                                          \
	_Static_assert(sizeof(type) == offsetof(type, last) + sizeof(((type *)0)->last),                     \
		       #type " ends in padding")
NO_TAIL_PADDING(struct ss_event, seq);
NO_TAIL_PADDING(struct ss_batch, reserved);
NO_TAIL_PADDING(struct ss_position, seq);
NO_TAIL_PADDING(struct ss_option, max);
NO_TAIL_PADDING(struct ss_metric, reserved);
NO_TAIL_PADDING(struct ss_iface, self);
NO_TAIL_PADDING(struct ss_host, output_read);
NO_TAIL_PADDING(struct ss_component, reconfigure);
NO_TAIL_PADDING(struct ss_entry, components);
NO_TAIL_PADDING(struct ss_loop, set_max_delay);
NO_TAIL_PADDING(struct ss_attribute, reserved);
NO_TAIL_PADDING(struct ss_attributes, values);
NO_TAIL_PADDING(struct ss_attribute_service, attach);
NO_TAIL_PADDING(struct ss_field, flags);
NO_TAIL_PADDING(struct ss_fields, unescape);
NO_TAIL_PADDING(struct ss_loop_libev, touched);
NO_TAIL_PADDING(struct ss_positions, committed);
NO_TAIL_PADDING(struct ss_tls_signer, unref);
NO_TAIL_PADDING(struct ss_tls_material, signer);
NO_TAIL_PADDING(struct ss_der, len);
NO_TAIL_PADDING(struct ss_tls, use_signers);
NO_TAIL_PADDING(struct ss_tls_provider, retry);
NO_TAIL_PADDING(struct ss_tls_publish, publish_signer);

struct number {
	const char *what;
	size_t is, was;
};

/* clang-format off */
#define SIZE(type, n)      {"sizeof(struct " #type ")", sizeof(struct type), n}
#define MEMBER(type, m, n) {"offsetof(struct " #type ", " #m ")", offsetof(struct type, m), n}
#define VALUE(name, n)     {#name, (size_t)(name), n}
/* clang-format on */

static const struct number numbers[] = {
	SIZE(ss_event, 32),
	MEMBER(ss_event, data, 0),
	MEMBER(ss_event, len, 8),
	MEMBER(ss_event, flags, 12),
	MEMBER(ss_event, attributes, 14),
	MEMBER(ss_event, time_ns, 16),
	MEMBER(ss_event, seq, 24),
	SIZE(ss_batch, 64),
	MEMBER(ss_batch, struct_size, 0),
	MEMBER(ss_batch, count, 4),
	MEMBER(ss_batch, capacity, 8),
	MEMBER(ss_batch, footprint, 12),
	MEMBER(ss_batch, events, 16),
	MEMBER(ss_batch, data, 24),
	MEMBER(ss_batch, size, 32),
	MEMBER(ss_batch, token, 40),
	MEMBER(ss_batch, attributes, 48),
	MEMBER(ss_batch, n_attributes, 56),
	MEMBER(ss_batch, reserved, 60),
	SIZE(ss_position, 40),
	MEMBER(ss_position, stream, 0),
	MEMBER(ss_position, epoch, 16),
	MEMBER(ss_position, seq, 32),
	SIZE(ss_option, 72),
	MEMBER(ss_option, key, 0),
	MEMBER(ss_option, default_text, 8),
	MEMBER(ss_option, help, 16),
	MEMBER(ss_option, choices, 24),
	MEMBER(ss_option, schema, 32),
	MEMBER(ss_option, type, 40),
	MEMBER(ss_option, flags, 44),
	MEMBER(ss_option, offset, 48),
	MEMBER(ss_option, reserved, 52),
	MEMBER(ss_option, min, 56),
	MEMBER(ss_option, max, 64),
	SIZE(ss_metric, 32),
	MEMBER(ss_metric, name, 0),
	MEMBER(ss_metric, help, 8),
	MEMBER(ss_metric, label, 16),
	MEMBER(ss_metric, kind, 24),
	MEMBER(ss_metric, reserved, 28),
	SIZE(ss_iface, 16),
	MEMBER(ss_iface, vtbl, 0),
	MEMBER(ss_iface, self, 8),
	SIZE(ss_host, 192),
	MEMBER(ss_host, struct_size, 0),
	MEMBER(ss_host, reserved, 4),
	MEMBER(ss_host, impl, 8),
	MEMBER(ss_host, id, 16),
	MEMBER(ss_host, log, 24),
	MEMBER(ss_host, config_error, 32),
	MEMBER(ss_host, batch_new, 40),
	MEMBER(ss_host, batch_ref, 48),
	MEMBER(ss_host, batch_unref, 56),
	MEMBER(ss_host, emit, 64),
	MEMBER(ss_host, drop, 72),
	MEMBER(ss_host, done, 80),
	MEMBER(ss_host, input_ready, 88),
	MEMBER(ss_host, drained, 96),
	MEMBER(ss_host, track, 104),
	MEMBER(ss_host, position, 112),
	MEMBER(ss_host, token_ref, 120),
	MEMBER(ss_host, token_unref, 128),
	MEMBER(ss_host, set_health, 136),
	MEMBER(ss_host, metric_add, 144),
	MEMBER(ss_host, metric_set, 152),
	MEMBER(ss_host, query, 160),
	MEMBER(ss_host, set_degraded, 168),
	MEMBER(ss_host, claim, 176),
	MEMBER(ss_host, output_read, 184),
	SIZE(ss_component, 208),
	MEMBER(ss_component, struct_size, 0),
	MEMBER(ss_component, kind, 4),
	MEMBER(ss_component, type, 8),
	MEMBER(ss_component, version, 16),
	MEMBER(ss_component, summary, 24),
	MEMBER(ss_component, license, 32),
	MEMBER(ss_component, options, 40),
	MEMBER(ss_component, option_size, 48),
	MEMBER(ss_component, n_options, 52),
	MEMBER(ss_component, metrics, 56),
	MEMBER(ss_component, metric_size, 64),
	MEMBER(ss_component, n_metrics, 68),
	MEMBER(ss_component, outputs, 72),
	MEMBER(ss_component, reasons, 80),
	MEMBER(ss_component, conf_size, 88),
	MEMBER(ss_component, create, 96),
	MEMBER(ss_component, destroy, 104),
	MEMBER(ss_component, start, 112),
	MEMBER(ss_component, stop, 120),
	MEMBER(ss_component, process, 128),
	MEMBER(ss_component, pause, 136),
	MEMBER(ss_component, resume, 144),
	MEMBER(ss_component, drain, 152),
	MEMBER(ss_component, acked, 160),
	MEMBER(ss_component, idle, 168),
	MEMBER(ss_component, extension, 176),
	MEMBER(ss_component, flags, 184),
	MEMBER(ss_component, reserved, 188),
	MEMBER(ss_component, inject, 192),
	MEMBER(ss_component, reconfigure, 200),
	SIZE(ss_entry, 16),
	MEMBER(ss_entry, struct_size, 0),
	MEMBER(ss_entry, n_components, 4),
	MEMBER(ss_entry, components, 8),
	SIZE(ss_loop, 64),
	MEMBER(ss_loop, struct_size, 0),
	MEMBER(ss_loop, reserved, 4),
	MEMBER(ss_loop, timer, 8),
	MEMBER(ss_loop, fd, 16),
	MEMBER(ss_loop, change, 24),
	MEMBER(ss_loop, cancel, 32),
	MEMBER(ss_loop, post, 40),
	MEMBER(ss_loop, now, 48),
	MEMBER(ss_loop, set_max_delay, 56),
	SIZE(ss_handover, 48),
	MEMBER(ss_handover, struct_size, 0),
	MEMBER(ss_handover, wanted, 8),
	MEMBER(ss_handover, give, 16),
	MEMBER(ss_handover, take, 24),
	MEMBER(ss_handover, give_noted, 32),
	MEMBER(ss_handover, take_noted, 40),
	SIZE(ss_attribute, 16),
	MEMBER(ss_attribute, text, 0),
	MEMBER(ss_attribute, len, 8),
	MEMBER(ss_attribute, reserved, 12),
	SIZE(ss_attributes, 120),
	MEMBER(ss_attributes, struct_size, 0),
	MEMBER(ss_attributes, flags, 4),
	MEMBER(ss_attributes, values, 8),
	SIZE(ss_attribute_service, 56),
	MEMBER(ss_attribute_service, struct_size, 0),
	MEMBER(ss_attribute_service, reserved, 4),
	MEMBER(ss_attribute_service, want, 8),
	MEMBER(ss_attribute_service, wanted, 16),
	MEMBER(ss_attribute_service, make, 24),
	MEMBER(ss_attribute_service, ref, 32),
	MEMBER(ss_attribute_service, unref, 40),
	MEMBER(ss_attribute_service, attach, 48),
	SIZE(ss_field, 16),
	MEMBER(ss_field, text, 0),
	MEMBER(ss_field, len, 8),
	MEMBER(ss_field, type, 12),
	MEMBER(ss_field, flags, 14),
	SIZE(ss_fields, 56),
	MEMBER(ss_fields, struct_size, 0),
	MEMBER(ss_fields, reserved, 4),
	MEMBER(ss_fields, compile, 8),
	MEMBER(ss_fields, free, 16),
	MEMBER(ss_fields, read, 24),
	MEMBER(ss_fields, number, 32),
	MEMBER(ss_fields, integer, 40),
	MEMBER(ss_fields, unescape, 48),
	SIZE(ss_loop_libev, 24),
	MEMBER(ss_loop_libev, struct_size, 0),
	MEMBER(ss_loop_libev, reserved, 4),
	MEMBER(ss_loop_libev, ev_loop, 8),
	MEMBER(ss_loop_libev, touched, 16),
	SIZE(ss_positions, 80),
	MEMBER(ss_positions, struct_size, 0),
	MEMBER(ss_positions, reserved, 4),
	MEMBER(ss_positions, checkpointer, 8),
	MEMBER(ss_positions, restore, 16),
	MEMBER(ss_positions, cover, 24),
	MEMBER(ss_positions, rewind, 32),
	MEMBER(ss_positions, snapshot, 40),
	MEMBER(ss_positions, resume, 48),
	MEMBER(ss_positions, keep, 56),
	MEMBER(ss_positions, sync, 64),
	MEMBER(ss_positions, committed, 72),
	SIZE(ss_tls_signer, 40),
	MEMBER(ss_tls_signer, struct_size, 0),
	MEMBER(ss_tls_signer, reserved, 4),
	MEMBER(ss_tls_signer, self, 8),
	MEMBER(ss_tls_signer, sign, 16),
	MEMBER(ss_tls_signer, ref, 24),
	MEMBER(ss_tls_signer, unref, 32),
	SIZE(ss_tls_material, 80),
	MEMBER(ss_tls_material, struct_size, 0),
	MEMBER(ss_tls_material, role, 4),
	MEMBER(ss_tls_material, generation, 8),
	MEMBER(ss_tls_material, chain_pem, 16),
	MEMBER(ss_tls_material, key_pem, 24),
	MEMBER(ss_tls_material, ca_pem, 32),
	MEMBER(ss_tls_material, not_before, 40),
	MEMBER(ss_tls_material, not_after, 48),
	MEMBER(ss_tls_material, min_version, 56),
	MEMBER(ss_tls_material, flags, 60),
	MEMBER(ss_tls_material, source, 64),
	MEMBER(ss_tls_material, signer, 72),
	SIZE(ss_der, 16),
	MEMBER(ss_der, data, 0),
	MEMBER(ss_der, len, 8),
	SIZE(ss_tls, 88),
	MEMBER(ss_tls, struct_size, 0),
	MEMBER(ss_tls, reserved, 4),
	MEMBER(ss_tls, enabled, 8),
	MEMBER(ss_tls, acquire, 16),
	MEMBER(ss_tls, release, 24),
	MEMBER(ss_tls, watch, 32),
	MEMBER(ss_tls, unwatch, 40),
	MEMBER(ss_tls, check_peer, 48),
	MEMBER(ss_tls, count_failure, 56),
	MEMBER(ss_tls, recheck_peer, 64),
	MEMBER(ss_tls, listed, 72),
	MEMBER(ss_tls, use_signers, 80),
	SIZE(ss_tls_provider, 32),
	MEMBER(ss_tls_provider, struct_size, 0),
	MEMBER(ss_tls_provider, reserved, 4),
	MEMBER(ss_tls_provider, identity, 8),
	MEMBER(ss_tls_provider, command, 16),
	MEMBER(ss_tls_provider, retry, 24),
	SIZE(ss_tls_publish, 40),
	MEMBER(ss_tls_publish, struct_size, 0),
	MEMBER(ss_tls_publish, reserved, 4),
	MEMBER(ss_tls_publish, publish, 8),
	MEMBER(ss_tls_publish, unavailable, 16),
	MEMBER(ss_tls_publish, ca_files, 24),
	MEMBER(ss_tls_publish, publish_signer, 32),
	VALUE(SS_LOG_ERROR, 0),
	VALUE(SS_LOG_WARN, 10),
	VALUE(SS_LOG_INFO, 20),
	VALUE(SS_LOG_DEBUG, 30),
	VALUE(SS_KIND_SOURCE, 1),
	VALUE(SS_KIND_PROCESSOR, 2),
	VALUE(SS_KIND_SINK, 4),
	VALUE(SS_KIND_PROVIDER, 8),
	VALUE(SS_OWN_LOOP, 1),
	VALUE(SS_DONE, 0),
	VALUE(SS_KEPT, 1),
	VALUE(SS_BUSY, 2),
	VALUE(SS_DELIVERED, 0),
	VALUE(SS_DROPPED, 1),
	VALUE(SS_FAILED, 2),
	VALUE(SS_OPT_STRING, 1),
	VALUE(SS_OPT_INT, 2),
	VALUE(SS_OPT_BOOL, 3),
	VALUE(SS_OPT_BYTES, 4),
	VALUE(SS_OPT_DURATION, 5),
	VALUE(SS_OPT_ENUM, 6),
	VALUE(SS_OPT_JSON, 7),
	VALUE(SS_OPT_REQUIRED, 1),
	VALUE(SS_OPT_SECRET, 2),
	VALUE(SS_OPT_DEPRECATED, 4),
	VALUE(SS_METRIC_COUNTER, 1),
	VALUE(SS_METRIC_GAUGE, 2),
	VALUE(SS_FD_READ, 1),
	VALUE(SS_FD_WRITE, 2),
	VALUE(SS_JSON_MISSING, 0),
	VALUE(SS_JSON_NULL, 1),
	VALUE(SS_JSON_FALSE, 2),
	VALUE(SS_JSON_TRUE, 3),
	VALUE(SS_JSON_NUMBER, 4),
	VALUE(SS_JSON_STRING, 5),
	VALUE(SS_JSON_ARRAY, 6),
	VALUE(SS_JSON_OBJECT, 7),
	VALUE(SS_FIELD_ESCAPED, 1),
	VALUE(SS_FIELD_INTEGER, 2),
	VALUE(SS_TLS_SIGN_ECDSA, 1),
	VALUE(SS_TLS_SERVER, 0),
	VALUE(SS_TLS_CLIENT, 1),
	VALUE(SS_TLS_REQUIRE_PEER, 1),
	VALUE(SS_TLS_VERIFY_PEER, 2),
	VALUE(SS_TLS_SYSTEM_CA, 4),
	VALUE(SS_TLS_INSECURE, 8),
	VALUE(SS_TLS_FAIL_NO_CERT, 0),
	VALUE(SS_TLS_FAIL_OTHER, 7),
	VALUE(SS_TLS_FAIL_REVOKED, 8),
	VALUE(SS_TLS_FAIL_CRL_EXPIRED, 9),
};

int main(void)
{
	int failed = 0;
	if (sizeof(void *) != 8) {
		printf("1..0 # SKIP the numbers are for 64-bit machines\n");
		return 0;
	}
	for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
		const struct number *x = &numbers[i];
		if (x->is == x->was)
			continue;
		printf("# %s is %zu and was %zu\n", x->what, x->is, x->was);
		failed = 1;
	}
	printf("1..1\n%s 1 - sizes, offsets and values of the plugin ABI\n", failed ? "not ok" : "ok");
	return failed;
}
