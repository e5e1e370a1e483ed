// SPDX-License-Identifier: MIT
// file_input: a source that follows a file as "tail -F" does, a line an event, through rotation by rename and
// by truncation.  The position of a line counts the bytes of all files up to its end, and a journal knows
// which files those were, so that whoever stores lines has each of them once, whatever crashes.
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>
#include <semstreams/ext/positions.h>
#include "journal.hh"
#include "log_file.hh"
#include "plugin.hh"

namespace
{

constexpr size_t piece = 256 << 10;                   // bytes that are read at once, at least
constexpr uint64_t save_every = UINT64_C(1000000000); // ns, what is safe
enum Reason : uint32_t { truncated, too_long };
constexpr const char *reasons[] = {"truncated", "too_long", nullptr};
constexpr uint8_t only_stream[16] = {};

// What the configuration says.  Strings are const char *, everything else is int64_t.
struct Conf {
	const char *path;
	const char *state;
	int64_t interval; // ns
	int64_t grace;    // ns
	int64_t max_line; // bytes
};

constexpr ss_option options[] = {
	SS_OPT(Conf, path, SS_OPT_STRING, nullptr, "The file to follow; it need not be there yet.",
	       SS_FLAGS(SS_OPT_REQUIRED)),
	SS_OPT(Conf, state, SS_OPT_STRING, nullptr, "File of its own, in which it keeps how far it has come.",
	       SS_FLAGS(SS_OPT_REQUIRED | SS_OPT_WRITES)),
	SS_OPT(Conf, interval, SS_OPT_DURATION, "250ms", "Time between two looks at the file.",
	       SS_LIMITS(1000000, INT64_C(3600000000000))),
	SS_OPT(Conf, grace, SS_OPT_DURATION, "1s",
	       "How long a file that was renamed is read on, after its last line and once the next is there.",
	       SS_LIMITS(1000000, INT64_C(3600000000000))),
	SS_OPT(Conf, max_line, SS_OPT_BYTES, "1MiB", "Longer lines are dropped, reason \"too_long\".",
	       SS_LIMITS(1024, 64 << 20)),
};

class FileInput : public semstreams::Instance
{
      public:
	using Callbacks = semstreams::Callbacks<FileInput, Conf>;

	FileInput(const ss_host *h, const Conf &c)
	    : Instance(h), conf(c), loop(query<ss_loop>(SS_LOOP, &loop_self))
	{
		ss_iface found;
		if (h->query(h, SS_POSITIONS, sizeof *positions, &found) == 0) { // else there is the journal
			positions = static_cast<const ss_positions *>(found.vtbl);
			positions_self = found.self;
		}
		// renamed files and the next one are opened in its folder
		const std::string path = c.path;
		const size_t slash = path.rfind('/');
		const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
		if (path.empty() || slash + 1 == path.size()) {
			h->config_error(h, "/path", "must name a file");
			throw semstreams::refused_config();
		}
		if (path == c.state) {
			h->config_error(h, "/state", "must be another file than path");
			throw semstreams::refused_config();
		}
		if (h->claim(h, "/path", ("reads:" + folder).c_str()) == -ENOMEM ||
		    h->claim(h, "/state", (std::string("file:") + c.state).c_str()) == -ENOMEM)
			throw std::bad_alloc();
	}

	void start() override
	{
		journal = std::make_unique<Journal>(conf.state);
		// what all that store lines have; else what was acknowledged
		ss_position at;
		const Epoch &epoch = journal->epoch();
		const bool same = positions && positions->resume(positions_self, only_stream, &at) == 0 &&
				  std::equal(epoch.begin(), epoch.end(), std::begin(at.epoch));
		go_back_to(same ? at.seq : journal->acknowledged());
		read_soon(0);
	}
	void stop() override
	{
		loop->cancel(loop_self, timer);
		timer = 0;
		const uint64_t at = safe();
		files.clear();
		sent.clear();
		if (journal)
			journal->acknowledge(at);
	}
	void pause() override
	{
		paused = true;
		loop->cancel(loop_self, timer);
		timer = 0;
	}
	void resume() override
	{
		paused = false;
		read_soon(0);
	}
	// What was not read is read after the next start.
	int32_t drain() override
	{
		draining = true;
		loop->cancel(loop_self, timer);
		timer = 0;
		return 0;
	}

	// What became of a batch.  Of one that failed, and all behind it, the lines are sent again with the
	// same offsets.
	void acked(uint64_t cookie, int32_t status)
	{
		auto it = sent.find(cookie);
		if (it == sent.end())
			return; // sent again already
		if (status == SS_FAILED) {
			uint64_t lost = 0;
			for (auto again = it; again != sent.end(); ++again) {
				again->second.file->pending--;
				lost += again->second.file->gone ? again->second.rows : 0;
			}
			rewind(it->second);
			sent.erase(it, sent.end());
			if (lost)
				host->drop(host, truncated, lost);
			read_soon(static_cast<uint64_t>(conf.interval));
		} else {
			it->second.file->pending--;
			sent.erase(it);
		}
		forget_files();
	}

	// The timer: read a piece, or see whether there is another file.
	void look()
	{
		timer = 0;
		bool more = false;
		try {
			more = !files.empty() ? read_lines() : open_first();
			save();
			degraded("");
		} catch (const std::system_error &e) {
			degraded(e.what()); // shown, and tried again
		} catch (const std::bad_alloc &) {
			degraded("out of memory");
		}
		read_soon(more ? 0 : static_cast<uint64_t>(conf.interval));
	}

      private:
	using File = std::shared_ptr<LogFile>;
	struct Sent {
		File file;
		uint64_t offset; // of its first line
		uint32_t rows;
	};

	const Conf &conf; // the host keeps it until the instance is destroyed
	void *loop_self = nullptr, *positions_self = nullptr;
	const ss_loop *loop;
	const ss_positions *positions = nullptr;
	uint32_t timer = 0; // 0: none
	bool paused = false, draining = false;
	std::unique_ptr<Journal> journal; // from start on
	uint64_t given = 0;               // the newest sequence
	uint64_t saved_at = 0;
	std::deque<File>
		files; // the one that is read and others that may have to be read again, the oldest first
	size_t reading = 0; // index into files
	uint64_t quiet_since =
		0; // when the file that is read, and was renamed, was found at its end; 0: it was not
	std::map<uint64_t, Sent> sent; // by cookie, which grows
	uint64_t last_cookie = 0;
	std::vector<uint8_t> buffer;
	std::string shown; // as degraded

	void read_soon(uint64_t in_ns)
	{
		if (timer || paused || draining)
			return;
		int32_t rc =
			loop->timer(loop_self, in_ns, 0, Callbacks::on_timer<&FileInput::look>, this, &timer);
		if (rc < 0)
			throw semstreams::failure(-rc, "Cannot start a timer");
	}

	void degraded(const std::string &reason)
	{
		if (reason == shown)
			return;
		host->set_degraded(host, reason.empty() ? nullptr : reason.c_str());
		shown = reason;
	}

	// Up to this sequence nothing is on its way.
	uint64_t safe() const
	{
		if (sent.empty())
			return given;
		const Sent &oldest = sent.begin()->second;
		return oldest.file->base + oldest.offset;
	}

	void save()
	{
		const uint64_t now = loop->now(loop_self);
		if (now - saved_at < save_every)
			return;
		saved_at = now;
		journal->acknowledge(safe());
	}

	// ---- which file

	// Of that identity, at path or under another name; NULL: there is none.
	File find(uint64_t identity) const
	{
		auto current = LogFile::open(conf.path);
		if (current && current->identify(false) && current->identity == identity)
			return current;
		for (const std::string &path : rotated(conf.path)) {
			auto old = LogFile::open(path);
			if (old && old->identify(true) && old->identity == identity)
				return old;
		}
		return nullptr;
	}

	// Where that sequence is: in the file at path, or in one that was renamed meanwhile.
	void go_back_to(uint64_t seq)
	{
		const std::vector<Part> &parts = journal->parts();
		size_t first = 0;
		given = seq;
		while (first + 1 < parts.size() && parts[first + 1].base <= seq)
			first++;
		for (size_t i = first; i < parts.size(); i++) {
			auto file = find(parts[i].identity);
			const uint64_t offset = seq > parts[i].base ? seq - parts[i].base : 0;
			if (!file || file->size() < offset)
				continue;
			file->base = parts[i].base;
			file->recorded = true;
			file->offset = offset;
			file->end = i + 1 < parts.size() ? parts[i + 1].base - parts[i].base : UINT64_MAX;
			files.push_back(file);
			if (parts[i].base > journal->acknowledged() && i > first)
				lost();
			return;
		}
		if (!parts.empty())
			lost();
		journal->begin_anew();
		given = 0;
	}

	void lost() const
	{
		ss_log(host, SS_LOG_WARN,
		       "The file that was read last is gone or was truncated, going on with the next path=%s",
		       conf.path);
	}

	bool open_first()
	{
		auto file = LogFile::open(conf.path);
		if (!file)
			throw semstreams::failure(ENOENT, std::string("waiting for ") + conf.path);
		files.push_back(file);
		reading = 0;
		return true;
	}

	// Read on in the file that came after this one.
	bool open_next()
	{
		const int64_t changed = files[reading]->changed_ns();
		quiet_since = 0;
		if (reading + 1 == files.size()) {
			File next;
			for (const std::string &path : rotated(conf.path)) {
				next = LogFile::open(path);
				if (next && next->changed_ns() > changed)
					break;
				next.reset();
			}
			if (!next)
				next = LogFile::open(conf.path);
			if (!next)
				return false;
			follow(next, *files[reading]);
			files.push_back(next);
		}
		files[reading]->end = files[reading]->offset;
		reading++;
		forget_files();
		return true;
	}

	static void follow(const File &next, const LogFile &file)
	{
		next->base = file.base + file.offset;
		next->after = file.base;
	}

	// Before its first lines are given out.  false: it is not known yet who it is.
	bool record(LogFile &file)
	{
		if (file.recorded)
			return true;
		if (!file.identify(true))
			return false;
		const std::vector<Part> &parts = journal->parts();
		auto known = std::find_if(parts.begin(), parts.end(), [&](const Part &part) {
			return part.identity == file.identity && part.base > file.after;
		});
		if (known == parts.end()) {
			journal->add({file.base, file.identity});
		} else { // it was read before a restart
			file.base = known->base;
			if (known + 1 != parts.end())
				file.end = (known + 1)->base - file.base;
		}
		return file.recorded = true;
	}

	void forget_files()
	{
		while (reading > 0 && files.front()->pending == 0) {
			files.pop_front();
			reading--;
		}
	}

	void rewind(const Sent &to)
	{
		reading = static_cast<size_t>(std::find(files.begin(), files.end(), to.file) - files.begin());
		while (files[reading]->gone) // the last one never is
			reading++;
		for (size_t i = reading; i < files.size(); i++) {
			files[i]->offset = 0;
			files[i]->skipping = false;
		}
		if (!to.file->gone)
			to.file->offset = to.offset;
		given = files[reading]->base + files[reading]->offset;
		quiet_since = 0;
	}

	// ---- reading

	// A piece of the file that is read.  true: there may be more at once.
	bool read_lines()
	{
		LogFile &file = *files[reading];
		if (file.size() < file.offset)
			return start_over();
		buffer.resize(std::max(piece, static_cast<size_t>(conf.max_line) + 1));
		const auto room = static_cast<size_t>(
			std::min(static_cast<uint64_t>(buffer.size()), file.end - file.offset));
		const size_t n = file.read(buffer.data(), room, file.offset);
		const auto *last =
			static_cast<const uint8_t *>(n ? memrchr(buffer.data(), '\n', n) : nullptr);
		if (file.end == file.offset || (!last && n < buffer.size()))
			return at_end(n);
		quiet_since = 0;
		if (!last) {
			if (!file.skipping)
				host->drop(host, too_long, 1);
			file.skipping = true;
			file.offset += n;
			return true;
		}
		emit_lines(static_cast<size_t>(last - buffer.data()) + 1);
		return true;
	}

	// Truncated: what is in it now are other lines.
	bool start_over()
	{
		ss_log(host, SS_LOG_INFO, "File was truncated, reading it from its beginning path=%s",
		       conf.path);
		const File fresh = files[reading]->truncated();
		follow(fresh, *files[reading]);
		files.insert(files.begin() + static_cast<ptrdiff_t>(reading) + 1, fresh);
		if (files[reading]->recorded)
			journal->forget(files[reading]->base);
		reading++;
		forget_files();
		return true;
	}

	// n bytes are left, of a line that is not whole.
	bool at_end(size_t n)
	{
		LogFile &file = *files[reading];
		if (file.offset + n < file.end) { // else the next file was begun before
			if (file.is_at(conf.path) ||
			    (reading + 1 == files.size() && !file.path_is_taken(conf.path)))
				return false; // it is the newest
			const uint64_t now = loop->now(loop_self);
			if (!quiet_since)
				quiet_since = now;
			if (now - quiet_since < static_cast<uint64_t>(conf.grace))
				return false;
		}
		if (n == 0 || file.skipping)
			return open_next();
		emit_lines(n); // it will never have a newline
		return true;
	}

	// The first len bytes of the buffer: whole lines, or the last one of a file that is over.
	void emit_lines(size_t len)
	{
		File file = files[reading];
		if (!record(*file))
			return;
		const size_t rows =
			static_cast<size_t>(std::count(buffer.begin(),
						       buffer.begin() + static_cast<ptrdiff_t>(len), '\n')) +
			1;
		auto out = new_batch(nullptr, static_cast<uint32_t>(rows), len);
		std::copy_n(buffer.begin(), len, out->data);
		const auto now = std::chrono::system_clock::now().time_since_epoch();
		const auto now_ns = static_cast<uint64_t>(
			std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
		uint64_t lost = 0;
		bool skipping = file->skipping;
		for (size_t at = 0, end; at < len; at = end) {
			const auto *newline =
				static_cast<const uint8_t *>(memchr(out->data + at, '\n', len - at));
			end = newline ? static_cast<size_t>(newline - out->data) + 1 : len;
			size_t size = newline ? end - at - 1 : end - at;
			if (size > 0 && out->data[at + size - 1] == '\r')
				size--;
			const bool tail = skipping;
			skipping = false;
			lost += !tail && size > static_cast<size_t>(conf.max_line);
			if (tail || size == 0 || size > static_cast<size_t>(conf.max_line))
				continue;
			ss_event &e = out->events[out->count++];
			e = ss_event{};
			e.data = out->data + at;
			e.len = static_cast<uint32_t>(size);
			e.time_ns = now_ns;
			e.seq = file->base + file->offset + end;
		}
		send(file, std::move(out), len);
		if (lost)
			host->drop(host, too_long, lost);
	}

	void send(const File &file, semstreams::Batch out, size_t len)
	{
		const uint64_t from = file->offset;
		if (out->count > 0) {
			ss_position position{};
			std::copy(journal->epoch().begin(), journal->epoch().end(),
				  std::begin(position.epoch));
			position.seq = out->events[out->count - 1].seq;
			int32_t rc = host->track(host, out.get(), last_cookie + 1, &position);
			if (rc < 0)
				throw semstreams::failure(-rc, "Cannot track a batch");
			sent.emplace(++last_cookie, Sent{file, from, out->count});
			file->pending++;
		}
		// before emit, in which pause() and acked() may come
		file->offset = from + len;
		given = file->base + file->offset;
		file->skipping = false;
		if (out->count > 0)
			host->emit(host, 0, out.get());
	}
};

void acked(void *self, uint64_t cookie, int32_t status)
{
	FileInput::Callbacks::call(self, "acked", [&]() -> int32_t {
		FileInput::Callbacks::of(self).acked(cookie, status);
		return 0;
	});
}

constexpr ss_component make()
{
	ss_component c = semstreams::component<FileInput, Conf>(
		SS_KIND_SOURCE, "file_input", "Follows a file, a line an event, as tail -F does.", options,
		SS_TELLS_PATHS);
	c.reasons = reasons;
	c.acked = acked;
	return c;
}
constexpr ss_component it = make();

} // namespace

SS_REGISTER(&it);
