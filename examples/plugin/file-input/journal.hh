// SPDX-License-Identifier: MIT
// journal - what a source has to know after a restart, kept in a file: of which files its sequences are, and
// up to which one everything is safe.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

using Epoch = std::array<uint8_t, 16>;

// A file that is followed: the sequence of a line is base, and the offset behind the line.
struct Part {
	uint64_t base;
	uint64_t identity; // of LogFile; 0: it cannot be read again
};

class Journal
{
      public:
	// Throws where the file cannot be read.  One that is not there is begun.
	explicit Journal(const std::string &path);

	// A file is given out from here on.  Durable when it returns; throws, and then nothing is changed.
	void add(const Part &part);
	// A file cannot be read again, as it was truncated.  With the next add().
	void forget(uint64_t base);
	// Up to this sequence all is safe.  Outlives the process, not the machine.
	void acknowledge(uint64_t seq);
	// Nothing of it is there any more: another epoch.
	void begin_anew();

	const Epoch &epoch() const
	{
		return drawn;
	}
	uint64_t acknowledged() const
	{
		return safe;
	}
	const std::vector<Part> &parts() const
	{
		return all;
	}

      private:
	void write(const std::vector<Part> &parts) const;
	std::string path;
	Epoch drawn{};
	uint64_t safe = 0;
	std::vector<Part> all; // bases grow
};
