// SPDX-License-Identifier: MIT
// log_file - a file that others append to, and the family it belongs to: the file at a path and those it was
// before it was renamed (log.1, log-20260101).
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>
#include <sys/types.h>

class LogFile
{
      public:
	// NULL: there is none of that name, or it is no regular file.  Throws what else goes wrong.
	static std::shared_ptr<LogFile> open(const std::string &path);
	// The same file after it was truncated, from its beginning.
	std::shared_ptr<LogFile> truncated();
	LogFile(const LogFile &) = delete;
	LogFile &operator=(const LogFile &) = delete;
	~LogFile();

	// Bytes from an offset on, fewer than size only at the end.
	size_t read(uint8_t *bytes, size_t size, uint64_t offset) const;
	uint64_t size() const;
	int64_t changed_ns() const;                        // mtime
	bool is_at(const std::string &path) const;         // or has it another name by now?
	bool path_is_taken(const std::string &path) const; // is another file there?

	// As soon as it has a whole first line; at its end (over) of what there is.  false: not yet.
	bool identify(bool over);

	// Who it is, for as long as lines are only appended to it, whatever its name: of its inode, the time
	// it was made, and its first line.  Valid once identified.
	uint64_t identity = 0;
	bool identified = false;
	bool recorded = false;     // in the journal
	uint64_t base = 0;         // of its sequences; not before it is recorded for good
	uint64_t after = 0;        // the base of the file before it
	uint64_t end = UINT64_MAX; // what comes behind is not read: there was a next file
	uint64_t offset = 0;       // of the first byte that was not given out
	bool skipping = false;     // in a line that is too long
	size_t pending = 0;        // batches on their way
	bool gone = false;         // truncated: what was read cannot be read again

      private:
	explicit LogFile(int descriptor) noexcept;
	static std::shared_ptr<LogFile> own(int descriptor); // closes it, also if it throws
	int fd;
	ino_t inode;
	int64_t made_ns = 0; // 0: unknown
};

// Files in path's folder that path was before they were renamed: path, '.' or '-', and digits; the oldest
// first.
std::vector<std::string> rotated(const std::string &path);
