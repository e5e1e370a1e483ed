/* SPDX-License-Identifier: MIT */
/* plugin_abi - refers to every struct of the plugin ABI, so that the debugging information of this object,
 * and what guard.py makes of it, has them all.  Never run. */
#include <semstreams/plugin.h>
#include <semstreams/ext/attributes.h>
#include <semstreams/ext/fields.h>
#include <semstreams/ext/handover.h>
#include <semstreams/ext/loop.h>
#include <semstreams/ext/loop-libev.h>
#include <semstreams/ext/peers.h>
#include <semstreams/ext/positions.h>
#include <semstreams/ext/rate.h>
#include <semstreams/ext/tls.h>
#include <semstreams/ext/tls-provider.h>

#define ABI(type)                                                                                            \
	extern SS_EXPORT const struct type *const abi_##type;                                                \
	const struct type *const abi_##type = NULL

ABI(ss_event);
ABI(ss_batch);
ABI(ss_position);
ABI(ss_option);
ABI(ss_metric);
ABI(ss_iface);
ABI(ss_host);
ABI(ss_message);
ABI(ss_component);
ABI(ss_entry);
ABI(ss_attribute);
ABI(ss_attributes);
ABI(ss_attribute_service);
ABI(ss_field);
ABI(ss_fields);
ABI(ss_handover);
ABI(ss_loop);
ABI(ss_loop_libev);
ABI(ss_peer);
ABI(ss_peer_rows);
ABI(ss_peers);
ABI(ss_positions);
ABI(ss_rate_limit);
ABI(ss_rate);
ABI(ss_tls_material);
ABI(ss_der);
ABI(ss_tls);
ABI(ss_tls_provider);
ABI(ss_tls_publish);
