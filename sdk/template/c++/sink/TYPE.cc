// SPDX-License-Identifier: MIT
// @TYPE@: a sink that appends each event to a file, as a line.
#include <string>
#include <fcntl.h>
#include <unistd.h>
#include "plugin.hh"

namespace {

// What the configuration says.  Strings are const char *, everything else is int64_t.
struct Conf {
	const char *path;
};

// From this table the host checks the configuration, fills Conf, prints help and a JSON Schema.
constexpr ss_option options[] = {
	SS_OPT(Conf, path, SS_OPT_STRING, nullptr, "The file to append to.",
	       SS_FLAGS(SS_OPT_REQUIRED | SS_OPT_WRITES)),
};

// One instance: a pipeline may have several, so no globals.  No two threads are ever in it at once, so no locks.
class Lines : public semstreams::Instance {
public:
	Lines(const ss_host *h, const Conf &c) : Instance(h), conf(c)
	{
	}

	void start() override
	{
		fd = open(conf.path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
		if (fd < 0)
			throw semstreams::failure(errno, std::string("Cannot open ") + conf.path);
	}

	void stop() override
	{
		if (fd >= 0)
			close(fd);
		fd = -1;
	}

	// All lines of a batch in one write: the cost is per batch, not per event.
	int32_t process(uint32_t, ss_batch *in) override
	{
		text.clear();
		for (uint32_t i = 0; i < in->count; i++) {
			const ss_event &e = in->events[i];
			text.append(reinterpret_cast<const char *>(e.data), e.len).push_back('\n');
		}
		for (size_t done = 0; done < text.size();) {
			ssize_t n = write(fd, text.data() + done, text.size() - done);
			if (n < 0 && errno != EINTR)
				return -errno; // the host counts the batch as dropped, and tells the source
			done += n > 0 ? static_cast<size_t>(n) : 0;
		}
		return SS_DONE;
	}

private:
	const Conf &conf; // the host keeps it until the instance is destroyed
	std::string text; // of one batch; here so that its memory is used again
	int fd = -1;
};

// SS_OPT_WRITES has told the one path, and `semstreams test` may run it.
constexpr ss_component it = semstreams::component<Lines, Conf>(
	SS_KIND_SINK, "@TYPE@", "Appends events to a file.", options, SS_TELLS_PATHS | SS_FILES_ONLY);

} // namespace

SS_REGISTER(&it);
