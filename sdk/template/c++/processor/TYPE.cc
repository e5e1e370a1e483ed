// SPDX-License-Identifier: MIT
// @TYPE@: a processor that passes on one event in so many, to thin out a sensor that is too fast.
#include "plugin.hh"

namespace {

// What the configuration says.  Strings would be const char *, everything else is int64_t.
struct Conf {
	int64_t every;
};

// From this table the host checks the configuration, fills Conf, prints help and a JSON Schema.
constexpr ss_option options[] = {
	SS_OPT(Conf, every, SS_OPT_INT, "10", "Pass on one event in so many.", SS_LIMITS(1, 1000000)),
};

// One instance: a pipeline may have several, so no globals.  No two threads are ever in it at once, so no locks.
class Thin : public semstreams::Instance {
public:
	Thin(const ss_host *h, const Conf &c) : Instance(h), conf(c)
	{
	}

	int32_t process(uint32_t, ss_batch *in) override
	{
		// A child of in: its rows may point into the memory of in, so nothing is copied.
		auto out = new_batch(in, in->count, 0);
		for (uint32_t i = 0; i < in->count; i++) {
			if (++seen < conf.every)
				continue; // neither emitted nor dropped: the host counts it as filtered
			seen = 0;
			out->events[out->count++] = in->events[i];
		}
		if (out->count > 0)
			host->emit(host, 0, out.get());
		return SS_DONE;
	}

private:
	const Conf &conf; // the host keeps it until the instance is destroyed
	int64_t seen = 0; // events since the last one passed on
};

// It opens no files, which SS_TELLS_PATHS says.
constexpr ss_component it = semstreams::component<Thin, Conf>(
	SS_KIND_PROCESSOR, "@TYPE@", "Passes on one event in so many.", options, SS_TELLS_PATHS);

} // namespace

SS_REGISTER(&it);
