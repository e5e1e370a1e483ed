# SS_PLUGIN(NAME, HELP, [TEST]): --enable-plugin-NAME=auto|yes|no (auto by default, yes with --enable-all-plugins) and the conditional PLUGIN_NAME.
# TEST sets ss_missing to the Debian packages it lacks.  The plugin's Makefile.inc does the rest.
AC_DEFUN([SS_PLUGIN], [
  m4_pushdef([SS_VAR], m4_translit([$1], [-], [_]))
  AC_ARG_ENABLE([plugin-$1], [AS_HELP_STRING([--enable-plugin-$1], [$2 @<:@auto@:>@])],
    [], [AS_VAR_SET([enable_plugin_]SS_VAR, [$ss_plugin_default])])
  ss_missing=
  AS_VAR_COPY([ss_want], [enable_plugin_]SS_VAR)
  AS_IF([test "x$ss_want" != xno], [m4_default([$3], [:])])
  AS_IF([test "x$ss_want" = xyes && test -n "$ss_missing"],
    [AC_MSG_ERROR([plugin $1 was asked for but lacks a library; on Debian: apt-get install $ss_missing])])
  AS_IF([test "x$ss_want" != xno && test -z "$ss_missing"],
    [ss_build=yes; AS_VAR_APPEND([ss_plugins], [" ]SS_VAR["])], [ss_build=no])
  AS_IF([test -n "$ss_missing"], [AS_VAR_APPEND([ss_left_out], [" ]SS_VAR[ (needs $ss_missing)"])])
  AM_CONDITIONAL([PLUGIN_]m4_toupper(SS_VAR), [test $ss_build = yes])
  m4_popdef([SS_VAR])
])
