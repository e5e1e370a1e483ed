# shellcheck shell=bash
# What the "run" of each example begins with: packages, and a semstreams.  It sets SEMSTREAMS; the example has set top, the
# folder of the sources, and folder, where it writes.

build_packages="build-essential autoconf automake libtool pkg-config libev-dev libmicrohttpd-dev libjansson-dev
	libgnutls28-dev libwebsockets-dev libwebsockets-evlib-ev libssl-dev libcurl4-openssl-dev zlib1g-dev libzstd-dev
	libpcre2-dev libseccomp-dev"

die () { echo "run: $*" >&2; exit 1; }

is_source () { [ -e "$top/configure.ac" ]; } # else it is installed, and the sources are elsewhere

missing () { # PACKAGE...: those that are not installed
	local name
	for name; do
		dpkg-query -W -f='${db:Status-Status}\n' "$name" 2>/dev/null | grep -qx installed || echo "$name"
	done
}

install_packages () { # PACKAGE...: those and, where it is needed, what the program is built with
	command -v dpkg-query >/dev/null || { echo "no dpkg here: packages are taken as installed"; return; }
	local wanted=$* names sudo=""
	[ -n "${SEMSTREAMS:-}" ] || ! is_source || wanted+=" $build_packages"
	# shellcheck disable=SC2086 # a list
	names=$(missing $wanted | xargs)
	[ -n "$names" ] || return 0
	echo "installing: $names"
	if [ "$(id -u)" != 0 ]; then
		sudo="sudo --preserve-env=DEBIAN_FRONTEND"
		command -v sudo >/dev/null || die "needs root for: apt-get install --no-install-recommends $names"
	fi
	export DEBIAN_FRONTEND=noninteractive
	mkdir -p "$folder"
	# shellcheck disable=SC2086
	{ $sudo apt-get -o DPkg::Lock::Timeout=500 update &&
		$sudo apt-get -o DPkg::Lock::Timeout=500 install -y --no-install-recommends $names; } >"$folder/apt.log" 2>&1 ||
		{ tail -20 "$folder/apt.log"; die "could not install" $names; }
}

# what make says is only of interest when it fails
logged () {
	local log=$1
	shift
	"$@" >>"$log" 2>&1 || { tail -30 "$log"; die "$1 failed; the whole of it is in $log"; }
}

build () {
	local log=$top/build/examples-build.log
	mkdir -p "$top/build"
	: >"$log"
	cd "$top"
	if ! [ -x configure ] || [ configure -ot configure.ac ]; then
		echo "building (some minutes, this once)"
		logged "$log" autoreconf -fi
	fi
	cd build
	[ -e config.status ] || logged "$log" env CONFIG_SHELL=/bin/sh ../configure --prefix="$top/build/inst"
	logged "$log" make -j"$(nproc)"
	logged "$log" make install
	cd "$top"
	SEMSTREAMS=$top/build/inst/bin/semstreams
}

find_program () { # the one that is given, else the one on the PATH or, among the sources, built
	is_source || SEMSTREAMS=${SEMSTREAMS:-$(command -v semstreams || true)}
	is_source || [ -n "$SEMSTREAMS" ] || die "no semstreams on the PATH"
	[ -n "${SEMSTREAMS:-}" ] || build
}
