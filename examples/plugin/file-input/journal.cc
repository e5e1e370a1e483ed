// SPDX-License-Identifier: MIT
#include "journal.hh"
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <sstream>
#include <system_error>
#include <fcntl.h>
#include <sys/random.h>
#include <unistd.h>
#include <semstreams/base/file_atomic.h>

namespace
{

constexpr size_t size_max = 1 << 20; // bytes
constexpr char first_line[] = "file_input 1\n";
constexpr size_t acked_at = sizeof first_line - 1 + 6; // behind "acked ", with a fixed number of digits

[[noreturn]] void fail(int error, const std::string &what)
{
	throw std::system_error(error, std::generic_category(), what);
}

Epoch draw()
{
	Epoch epoch;
	if (getrandom(epoch.data(), epoch.size(), 0) != static_cast<ssize_t>(epoch.size()))
		fail(errno, "Cannot draw an epoch");
	return epoch;
}

std::string digits(uint64_t n)
{
	char text[21];
	snprintf(text, sizeof text, "%020llu", static_cast<unsigned long long>(n));
	return text;
}

std::string hex(const Epoch &epoch)
{
	std::string text;
	char two[3];
	for (uint8_t byte : epoch) {
		snprintf(two, sizeof two, "%02x", byte);
		text += two;
	}
	return text;
}

bool from_hex(const std::string &text, Epoch &epoch)
{
	if (text.size() != 2 * epoch.size() ||
	    text.find_first_not_of("0123456789abcdef") != std::string::npos)
		return false;
	for (size_t i = 0; i < epoch.size(); i++)
		epoch[i] = static_cast<uint8_t>(std::stoul(text.substr(2 * i, 2), nullptr, 16));
	return true;
}

// The words of a journal.  false: it is none.
bool parse(const std::string &text, Epoch &epoch, uint64_t &safe, std::vector<Part> &parts)
{
	std::istringstream in(text);
	std::string name, version, word;
	if (!(in >> name >> version) || name + " " + version + "\n" != first_line)
		return false;
	if (!(in >> word >> safe) || word != "acked" || !(in >> word >> name) || word != "epoch" ||
	    !from_hex(name, epoch))
		return false;
	while (in >> word) {
		Part part{};
		if (word != "file" || !(in >> part.base >> part.identity) ||
		    (!parts.empty() && part.base <= parts.back().base))
			return false;
		parts.push_back(part);
	}
	return true;
}

} // namespace

Journal::Journal(const std::string &file) : path(file)
{
	char *bytes = nullptr;
	size_t len = 0;
	int rc = ss_file_read(AT_FDCWD, path.c_str(), size_max, &bytes, &len, nullptr);
	if (rc == 0) {
		std::unique_ptr<char, decltype(&free)> owned(bytes, free);
		if (!parse(std::string(bytes, len), drawn, safe, all))
			fail(EBADMSG, path + " is no state of file_input; remove it to begin anew");
	} else if (rc != -ENOENT) {
		fail(-rc, "Cannot read " + path);
	}
	if (all.empty())
		begin_anew();
}

void Journal::begin_anew()
{
	all.clear();
	safe = 0;
	drawn = draw();
}

void Journal::add(const Part &part)
{
	std::vector<Part> next;
	for (size_t i = 0; i < all.size(); i++)
		if ((i + 1 < all.size() ? all[i + 1].base : part.base) > safe)
			next.push_back(all[i]); // not all of it is safe
	next.push_back(part);
	write(next);
	all = std::move(next);
}

void Journal::forget(uint64_t base)
{
	for (Part &part : all)
		if (part.base == base)
			part.identity = 0;
}

void Journal::write(const std::vector<Part> &parts) const
{
	std::string text = first_line + ("acked " + digits(safe)) + "\nepoch " + hex(drawn) + "\n";
	for (const Part &part : parts)
		text += "file " + digits(part.base) + " " + std::to_string(part.identity) + "\n";
	const char *name;
	int folder = ss_open_folder_of(path.c_str(), &name);
	if (folder < 0)
		fail(-folder, "Cannot open the folder of " + path);
	int rc = ss_file_write(folder, name, text.data(), text.size(), 0644);
	close(folder);
	if (rc < 0)
		fail(-rc, "Cannot write " + path);
}

void Journal::acknowledge(uint64_t seq)
{
	if (seq == safe || all.empty())
		return;
	int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		fail(errno, "Cannot write " + path);
	const std::string text = digits(seq);
	int rc = ss_pwrite_all(fd, text.data(), text.size(), static_cast<off_t>(acked_at));
	close(fd);
	if (rc < 0)
		fail(-rc, "Cannot write " + path);
	safe = seq;
}
