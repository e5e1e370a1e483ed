// SPDX-License-Identifier: MIT
#include "log_file.hh"
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <new>
#include <system_error>
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace
{

constexpr size_t beginning_max = 1024; // bytes of a first line that tell who a file is

[[noreturn]] void fail(const std::string &what)
{
	throw std::system_error(errno, std::generic_category(), what);
}

struct stat status_of(int fd)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		fail("Cannot look at a file");
	return st;
}

int64_t ns(const struct timespec &t)
{
	return static_cast<int64_t>(t.tv_sec) * 1000000000 + t.tv_nsec;
}

// FNV-1a: nobody gains by a collision of his own lines
uint64_t hash(const void *bytes, size_t len, uint64_t so_far)
{
	for (size_t i = 0; i < len; i++)
		so_far = (so_far ^ static_cast<const uint8_t *>(bytes)[i]) * UINT64_C(1099511628211);
	return so_far;
}

// When an inode was made; 0 where the file system does not know.
int64_t birth_ns(int fd)
{
	struct statx st;
	if (statx(fd, "", AT_EMPTY_PATH, STATX_BTIME, &st) < 0 || !(st.stx_mask & STATX_BTIME))
		return 0;
	return st.stx_btime.tv_sec * 1000000000 + st.stx_btime.tv_nsec;
}

std::string folder_of(const std::string &path)
{
	size_t slash = path.rfind('/');
	return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

} // namespace

LogFile::LogFile(int descriptor) noexcept : fd(descriptor), inode(0)
{
}

std::shared_ptr<LogFile> LogFile::own(int descriptor)
{
	LogFile *made = new (std::nothrow) LogFile(descriptor);
	if (!made) {
		close(descriptor);
		throw std::bad_alloc();
	}
	std::shared_ptr<LogFile> file(made); // from here on it is closed with the object
	struct stat st = status_of(descriptor);
	if (!S_ISREG(st.st_mode))
		return nullptr;
	file->inode = st.st_ino;
	file->made_ns = birth_ns(descriptor);
	return file;
}

std::shared_ptr<LogFile> LogFile::open(const std::string &path)
{
	int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 && errno == ENOENT)
		return nullptr;
	if (fd < 0)
		fail("Cannot open " + path);
	return own(fd);
}

std::shared_ptr<LogFile> LogFile::truncated()
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (copy < 0)
		fail("Cannot read a file on");
	auto fresh = own(copy);
	gone = true;
	return fresh;
}

LogFile::~LogFile()
{
	if (fd >= 0)
		close(fd);
}

size_t LogFile::read(uint8_t *bytes, size_t size, uint64_t from) const
{
	size_t n = 0;
	while (n < size) {
		ssize_t got = pread(fd, bytes + n, size - n, static_cast<off_t>(from + n));
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			fail("Cannot read a file");
		if (got == 0)
			break;
		n += static_cast<size_t>(got);
	}
	return n;
}

uint64_t LogFile::size() const
{
	return static_cast<uint64_t>(status_of(fd).st_size);
}

int64_t LogFile::changed_ns() const
{
	return ns(status_of(fd).st_mtim);
}

bool LogFile::is_at(const std::string &path) const
{
	struct stat st;
	return stat(path.c_str(), &st) == 0 && st.st_ino == inode;
}

bool LogFile::path_is_taken(const std::string &path) const
{
	struct stat st;
	return stat(path.c_str(), &st) == 0 && st.st_ino != inode && S_ISREG(st.st_mode);
}

bool LogFile::identify(bool over)
{
	if (identified)
		return true;
	std::array<uint8_t, beginning_max> bytes;
	size_t n = read(bytes.data(), bytes.size(), 0);
	const auto *newline = static_cast<const uint8_t *>(memchr(bytes.data(), '\n', n));
	if (!newline && n < bytes.size() && (!over || n == 0))
		return false;
	size_t len = newline ? static_cast<size_t>(newline - bytes.data()) : n;
	const uint64_t inode_hash = hash(&inode, sizeof inode, UINT64_C(14695981039346656037));
	identity = hash(bytes.data(), len, hash(&made_ns, sizeof made_ns, inode_hash));
	return identified = true;
}

std::vector<std::string> rotated(const std::string &path)
{
	const std::string folder = folder_of(path), name = path.substr(path.rfind('/') + 1);
	std::unique_ptr<DIR, int (*)(DIR *)> dir(opendir(folder.c_str()), closedir);
	std::vector<std::pair<int64_t, std::string>> found;

	if (!dir)
		fail("Cannot open the folder " + folder);
	while (const struct dirent *entry = readdir(dir.get())) {
		const std::string other = entry->d_name;
		struct stat st;
		if (other.size() < name.size() + 2 || other.compare(0, name.size(), name) != 0 ||
		    (other[name.size()] != '.' && other[name.size()] != '-') ||
		    other.find_first_not_of("0123456789-.T:_", name.size() + 1) != std::string::npos)
			continue;
		if (fstatat(dirfd(dir.get()), entry->d_name, &st, 0) == 0 && S_ISREG(st.st_mode))
			found.emplace_back(ns(st.st_mtim), folder + "/" + other);
	}
	std::sort(found.begin(), found.end());
	std::vector<std::string> paths;
	for (auto &[changed, other] : found)
		paths.push_back(std::move(other));
	return paths;
}
