# Read by pipeline.test: the installed program, with the plugin in a folder of its own.  PLUGIN is the built plugin;
# SEMSTREAMS, if set, another program than the one the SDK belongs to.  All is done in a temporary folder.
set -eu
here=$(cd "${srcdir:-.}" && pwd)
semstreams=${SEMSTREAMS:-$("${PKG_CONFIG:-pkg-config}" --variable=bindir semstreams)/semstreams}
test -x "$semstreams" || semstreams=$(command -v "${SEMSTREAMS:-semstreams}") || {
	echo "skipped: there is no ${SEMSTREAMS:-semstreams}; SEMSTREAMS says where the program is"
	exit 77
}
dir=$(mktemp -d)
pid=
finish () {
	test -z "$pid" || kill "$pid" || :
	wait
	rm -rf "$dir"
}
trap finish EXIT
# the host loads nothing that others may write to
mkdir -m 755 "$dir/plugins"
cp "$PLUGIN" "$dir/plugins/"
chmod 755 "$dir"/plugins/*.so
cd "$dir"

# the rules of the plugin interface; CHECK_OPTIONS are those of "semstreams plugins check"
if "$semstreams" plugins check --help >/dev/null 2>&1; then
	# shellcheck disable=SC2086 # several options
	"$semstreams" plugins check ${CHECK_OPTIONS:-} "$dir"/plugins/*.so
else
	echo "skipped: $semstreams has no plugins check"
fi

# Run pipeline.json until the test ends; what the host says is in the file log.
start () {
	"$semstreams" run --plugins "$dir/plugins" --config "$here/pipeline.json" 2>log &
	pid=$!
}

# Wait at most a minute for a command to succeed.
until_true () {
	n=0
	until "$@"; do
		n=$((n + 1))
		if test $n -gt 600 || ! kill -0 "$pid"; then
			echo "failed: $*; the log:"
			cat log
			exit 1
		fi
		sleep 0.1
	done
}

# End the pipeline as an operator does; it has to end well.
stop () {
	kill "$pid"
	wait "$pid" || { echo "failed: the host ended with exit code $?; the log:"; cat log; exit 1; }
	pid=
}
