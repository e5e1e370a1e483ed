// SPDX-License-Identifier: MIT
// @TYPE@: a source that reads a small file again and again, such as a sensor's under /sys, and emits each time what
// stands there.
#include <chrono>
#include <string>
#include <fcntl.h>
#include <unistd.h>
#include "plugin.hh"

namespace {

constexpr size_t reading_max = 4096; // bytes; what is longer is cut off

// What the configuration says.  Strings are const char *, everything else is int64_t.
struct Conf {
	const char *path;
	int64_t interval; // ns
};

// From this table the host checks the configuration, fills Conf, prints help and a JSON Schema.
constexpr ss_option options[] = {
	SS_OPT(Conf, path, SS_OPT_STRING, nullptr, "The file to read.", SS_FLAGS(SS_OPT_REQUIRED | SS_OPT_READS)),
	SS_OPT(Conf, interval, SS_OPT_DURATION, "1s", "Time between two readings.",
	       SS_LIMITS(1000000, INT64_C(86400000000000))),
};

// One instance: a pipeline may have several, so no globals.  No two threads are ever in it at once, so no locks.
class Readings : public semstreams::Instance {
public:
	Readings(const ss_host *h, const Conf &c) : Instance(h), conf(c), loop(query<ss_loop>(SS_LOOP, &loop_self))
	{
	}

	// Reads at once, then every interval.
	void start() override
	{
		using Callbacks = semstreams::Callbacks<Readings, Conf>;
		if (timer)
			return;
		int32_t rc = loop->timer(loop_self, 0, static_cast<uint64_t>(conf.interval),
					 Callbacks::on_timer<&Readings::read_and_emit>, this, &timer);
		if (rc < 0)
			throw semstreams::failure(-rc, "Cannot start a timer");
	}
	void stop() override
	{
		loop->cancel(loop_self, timer);
		timer = 0;
	}
	// A queue downstream is full, so nothing is read.
	void pause() override
	{
		stop();
	}
	void resume() override
	{
		start();
	}
	// The end: nothing is held, and nothing more may be emitted.
	int32_t drain() override
	{
		stop();
		return 0;
	}

	void read_and_emit()
	{
		using namespace std::chrono;
		// One row, and memory of its own for the payload.
		auto out = new_batch(nullptr, 1, reading_max);
		ssize_t n = read_file(out->data, reading_max);
		if (n < 0) {
			// shown, and no reason to end
			std::string why = std::string("cannot read ") + conf.path + ": " + strerror(static_cast<int>(-n));
			host->set_degraded(host, why.c_str());
			return;
		}
		host->set_degraded(host, nullptr);
		if (n > 0 && out->data[n - 1] == '\n')
			n--;
		ss_event &e = out->events[out->count++];
		e = ss_event{};
		e.data = out->data;
		e.len = static_cast<uint32_t>(n);
		auto now = system_clock::now().time_since_epoch();
		e.time_ns = static_cast<uint64_t>(duration_cast<nanoseconds>(now).count());
		host->emit(host, 0, out.get());
	}

private:
	const Conf &conf; // the host keeps it until the instance is destroyed
	void *loop_self = nullptr;
	const ss_loop *loop;
	uint32_t timer = 0; // 0: none, as before start and while paused

	// How many bytes stand in the file, or -errno.
	ssize_t read_file(void *bytes, size_t size) const
	{
		int fd = open(conf.path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
		if (fd < 0)
			return -errno;
		ssize_t n = read(fd, bytes, size);
		if (n < 0)
			n = -errno;
		close(fd);
		return n;
	}
};

// SS_OPT_READS has told the one path there is.
constexpr ss_component it = semstreams::component<Readings, Conf>(
	SS_KIND_SOURCE, "@TYPE@", "Reads a file again and again.", options, SS_TELLS_PATHS);

} // namespace

SS_REGISTER(&it);
