# Libraries and what depends on them.  "auto" uses what is there, "yes" fails where it is missing, "no" does without.

# SS_LIBRARY(NAME, PKG-CONFIG MODULE, DEBIAN PACKAGE, WHAT FOR): --with-NAME, have_NAME, HAVE_NAME, NAME_CFLAGS/_LIBS.
AC_DEFUN([SS_LIBRARY], [
  m4_pushdef([SS_UP], m4_toupper([$1]))
  AC_ARG_WITH([$1], [AS_HELP_STRING([--with-$1], [$4 @<:@auto@:>@])], [], [with_$1=auto])
  have_$1=no
  AS_IF([test "x$with_$1" != xno], [PKG_CHECK_MODULES(SS_UP, [$2], [have_$1=yes], [have_$1=no])])
  AS_IF([test "x$with_$1$have_$1" = xyesno],
    [AC_MSG_ERROR([--with-$1 was given, but $2 is missing; on Debian: apt-get install $3])])
  AM_CONDITIONAL([HAVE_]SS_UP, [test "x$have_$1" = xyes])
  AS_IF([test "x$have_$1" = xyes], [AC_DEFINE([HAVE_]SS_UP, [1], [$4])])
  m4_popdef([SS_UP])
])

# SS_LIBRARY_NEEDED(NAME, PKG-CONFIG MODULE, DEBIAN PACKAGE): one that the program cannot do without.
AC_DEFUN([SS_LIBRARY_NEEDED], [
  PKG_CHECK_MODULES(m4_toupper([$1]), [$2], [],
    [AC_MSG_ERROR([$2 is needed and missing; on Debian: apt-get install $3])])
])
