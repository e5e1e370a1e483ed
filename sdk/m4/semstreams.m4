# SS_DEVEL([MIN-VERSION]): for the configure.ac of a plugin outside the semstreams tree, after LT_INIT.
#   SEMSTREAMS_CFLAGS          for compiling
#   SEMSTREAMS_TEST_HOST_LIBS  for linking unit tests that include semstreams/test-host.h
#   plugindir                  where plugins go; --with-plugindir=DIR overrides
#   SEMSTREAMS_PLUGIN_LDFLAGS  for linking; put a literal -module before it, automake looks for that word
# For "make distcheck" a Makefile.am needs
#   AM_DISTCHECK_CONFIGURE_FLAGS = --with-plugindir='$${libdir}/semstreams/plugins'
AC_DEFUN([SS_DEVEL], [
  PKG_CHECK_MODULES([SEMSTREAMS], [semstreams m4_ifval([$1], [>= $1])])
  PKG_CHECK_MODULES([SEMSTREAMS_TEST_HOST], [semstreams-test-host])
  PKG_CHECK_VAR([ss_devel_plugindir], [semstreams], [plugindir])
  AC_ARG_WITH([plugindir],
    [AS_HELP_STRING([--with-plugindir=DIR], [install the plugin into DIR @<:@where semstreams looks@:>@])],
    [plugindir=$withval], [plugindir=$ss_devel_plugindir])
  AC_SUBST([plugindir])
  AC_SUBST([SEMSTREAMS_PLUGIN_LDFLAGS],
    ["-avoid-version -shared -no-undefined -Wl,-z,defs -export-symbols-regex ^semstreams_entry_v"])
])
