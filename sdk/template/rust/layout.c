/* SPDX-License-Identifier: MIT */
/* layout - where the members of the host's structs are: semstreams.rs has to agree, see its test. */
#include <stdio.h>
#include <semstreams/plugin.h>
#include <semstreams/ext/loop.h>

#define FIELD(type, member)                                                                                  \
	printf(#type "." #member " %zu %zu\n", offsetof(struct type, member),                                \
	       sizeof(((struct type *)0)->member));

/* clang-format off */
int main(void)
{
#define EVENT(m) FIELD(ss_event, m)
	EVENT(data) EVENT(len) EVENT(flags) EVENT(attributes) EVENT(time_ns) EVENT(seq)
#define BATCH(m) FIELD(ss_batch, m)
	BATCH(struct_size) BATCH(count) BATCH(capacity) BATCH(footprint) BATCH(events) BATCH(data) BATCH(size)
#define OPTION(m) FIELD(ss_option, m)
	OPTION(key) OPTION(default_text) OPTION(help) OPTION(choices) OPTION(schema) OPTION(type)
	OPTION(flags) OPTION(offset) OPTION(reserved) OPTION(min) OPTION(max)
#define IFACE(m) FIELD(ss_iface, m)
	IFACE(vtbl) IFACE(self)
#define HOST(m) FIELD(ss_host, m)
	HOST(struct_size) HOST(reserved) HOST(impl) HOST(id) HOST(log) HOST(config_error) HOST(batch_new)
	HOST(batch_ref) HOST(batch_unref) HOST(emit) HOST(drop) HOST(done) HOST(input_ready) HOST(drained)
	HOST(track) HOST(position) HOST(token_ref) HOST(token_unref) HOST(set_health) HOST(metric_add)
	HOST(metric_set) HOST(query) HOST(set_degraded)
#define LOOP(m) FIELD(ss_loop, m)
	LOOP(struct_size) LOOP(reserved) LOOP(timer) LOOP(fd) LOOP(change) LOOP(cancel) LOOP(post) LOOP(now)
#define COMPONENT(m) FIELD(ss_component, m)
	COMPONENT(struct_size) COMPONENT(kind) COMPONENT(type) COMPONENT(version) COMPONENT(summary)
	COMPONENT(license) COMPONENT(options) COMPONENT(option_size) COMPONENT(n_options) COMPONENT(metrics)
	COMPONENT(metric_size) COMPONENT(n_metrics) COMPONENT(outputs) COMPONENT(reasons) COMPONENT(conf_size)
	COMPONENT(create) COMPONENT(destroy) COMPONENT(start) COMPONENT(stop) COMPONENT(process)
	COMPONENT(pause) COMPONENT(resume) COMPONENT(drain) COMPONENT(acked) COMPONENT(idle)
	COMPONENT(extension) COMPONENT(flags) COMPONENT(reserved)
#define ENTRY(m) FIELD(ss_entry, m)
	ENTRY(struct_size) ENTRY(n_components) ENTRY(components)
	printf("ss_event %zu\n", sizeof(struct ss_event)); /* in arrays, so its size matters, too */
	return 0;
}
/* clang-format on */
