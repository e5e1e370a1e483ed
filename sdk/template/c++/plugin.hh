// SPDX-License-Identifier: MIT
// plugin.hh - component types as classes.  An instance derives from semstreams::Instance, overrides what it needs, and
// throws where something fails: no exception crosses the border to the host, which is C.
#pragma once
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <system_error>
#include <semstreams/ext/loop.h>
#include <semstreams/sugar.h>

namespace semstreams {

// Throw this (or std::bad_alloc) for an error of the system; the host gets -code.
inline std::system_error failure(int code, const std::string &what)
{
	return std::system_error(code, std::generic_category(), what);
}

// What create has reported by config_error() already.
struct refused_config {};

// A batch of our own, which gives its reference back.
struct Unref {
	const ss_host *host;
	void operator()(ss_batch *batch) const noexcept
	{
		host->batch_unref(batch);
	}
};
using Batch = std::unique_ptr<ss_batch, Unref>;

class Instance {
public:
	explicit Instance(const ss_host *h) : host(h)
	{
	}
	Instance(const Instance &) = delete;
	Instance &operator=(const Instance &) = delete;
	virtual ~Instance() = default;

	// What they mean, and when they come, is said in semstreams/plugin.h.
	virtual void start()
	{
	}
	virtual void stop()
	{
	}
	virtual int32_t process(uint32_t, ss_batch *)
	{
		return SS_DONE;
	}
	virtual void pause()
	{
	}
	virtual void resume()
	{
	}
	virtual int32_t drain()
	{
		return 0;
	}

	const ss_host *const host;

protected:
	// Rows that may point into the parent's memory, and bytes of its own.
	Batch new_batch(ss_batch *parent, uint32_t rows, size_t bytes) const
	{
		Batch made(host->batch_new(host, parent, rows, bytes), Unref{host});
		if (!made)
			throw std::bad_alloc();
		return made;
	}

	template <typename Service> const Service *query(const char *id, void **self) const
	{
		ss_iface found;
		int32_t rc = host->query(host, id, static_cast<uint32_t>(sizeof(Service)), &found);
		if (rc < 0)
			throw failure(-rc, id);
		*self = found.self;
		return static_cast<const Service *>(found.vtbl);
	}
};

// Runs f; what it throws becomes a line of the log and an error number.
template <typename F> int32_t guarded(const ss_host *host, const char *callback, F f) noexcept
{
	try {
		return f();
	} catch (const std::bad_alloc &) {
		return -ENOMEM;
	} catch (const refused_config &) {
		return -EINVAL;
	} catch (const std::system_error &e) {
		ss_log(host, SS_LOG_ERROR, "%s", e.what());
		return e.code().value() > 0 ? -e.code().value() : -EIO;
	} catch (const std::exception &e) {
		ss_log(host, SS_LOG_ERROR, "Exception callback=%s error=\"%s\"", callback, e.what());
	} catch (...) {
		ss_log(host, SS_LOG_ERROR, "Unknown exception callback=%s", callback);
	}
	return -EIO;
}

// The callbacks of a class T with the constructor T(const ss_host *, const Conf &).  The host's side of an instance is
// a Slot, so that the host is at hand whatever T does.
template <typename T, typename Conf> struct Callbacks {
	struct Slot {
		const ss_host *host;
		std::unique_ptr<T> instance;
	};
	static T &of(void *self)
	{
		return *static_cast<Slot *>(self)->instance;
	}
	template <typename F> static int32_t call(void *self, const char *callback, F f) noexcept
	{
		return guarded(static_cast<Slot *>(self)->host, callback, f);
	}

	static int32_t create(const ss_host *host, const void *conf, void **self)
	{
		return guarded(host, "create", [&]() -> int32_t {
			std::unique_ptr<Slot> slot(new Slot{host, nullptr});
			slot->instance.reset(new T(host, *static_cast<const Conf *>(conf)));
			*self = slot.release();
			return 0;
		});
	}
	static void destroy(void *self)
	{
		delete static_cast<Slot *>(self);
	}
	static int32_t start(void *self)
	{
		return call(self, "start", [&]() -> int32_t { return of(self).start(), 0; });
	}
	static void stop(void *self)
	{
		call(self, "stop", [&]() -> int32_t { return of(self).stop(), 0; });
	}
	static int32_t process(void *self, uint32_t port, ss_batch *batch)
	{
		return call(self, "process", [&]() { return of(self).process(port, batch); });
	}
	static void pause(void *self)
	{
		call(self, "pause", [&]() -> int32_t { return of(self).pause(), 0; });
	}
	static void resume(void *self)
	{
		call(self, "resume", [&]() -> int32_t { return of(self).resume(), 0; });
	}
	static int32_t drain(void *self)
	{
		return call(self, "drain", [&]() { return of(self).drain(); });
	}
	// For the loop's timers: arg is the T that was given to it.
	template <void (T::*method)()> static void on_timer(void *arg)
	{
		T *instance = static_cast<T *>(arg);
		guarded(instance->host, "timer", [&]() -> int32_t { return (instance->*method)(), 0; });
	}
};

// What the host reads: SS_REGISTER(&it) exports it.  A constant, so that no code runs when the file is examined.
template <typename T, typename Conf, size_t n>
constexpr ss_component component(uint32_t kind, const char *type, const char *summary, const ss_option (&options)[n],
		       uint32_t flags)
{
	using C = Callbacks<T, Conf>;
	ss_component c{};
	c.struct_size = static_cast<uint32_t>(sizeof c);
	c.kind = kind;
	c.type = type;
	c.version = "0.1.0";
	c.summary = summary;
	c.license = "MIT";
	c.options = options;
	c.option_size = static_cast<uint32_t>(sizeof options[0]);
	c.n_options = static_cast<uint32_t>(n);
	c.conf_size = sizeof(Conf);
	c.create = C::create;
	c.destroy = C::destroy;
	c.start = C::start;
	c.stop = C::stop;
	c.process = kind == SS_KIND_SOURCE ? nullptr : C::process;
	c.pause = kind == SS_KIND_SOURCE ? C::pause : nullptr;
	c.resume = kind == SS_KIND_SOURCE ? C::resume : nullptr;
	c.drain = C::drain;
	c.flags = flags;
	return c;
}

} // namespace semstreams
