# Compiler and linker flags: each is used only where the tool has it.

# SS_TRY_FLAGS(VAR, FLAGS, compile|link): append each of FLAGS that works to VAR.
AC_DEFUN([SS_TRY_FLAGS], [
  for ss_flag in $2; do
    AS_VAR_PUSHDEF([ss_cache], [ss_cv_$3_$ss_flag])
    AC_CACHE_CHECK([whether $CC takes $ss_flag], [ss_cache], [
      ss_saved_cflags=$CFLAGS
      ss_saved_ldflags=$LDFLAGS
      CFLAGS="$CFLAGS -Werror"
      m4_if([$3], [link], [LDFLAGS="$LDFLAGS $ss_flag"], [CFLAGS="$CFLAGS $ss_flag"])
      m4_if([$3], [link],
        [AC_LINK_IFELSE([AC_LANG_PROGRAM()], [AS_VAR_SET([ss_cache], [yes])], [AS_VAR_SET([ss_cache], [no])])],
        [AC_COMPILE_IFELSE([AC_LANG_PROGRAM()], [AS_VAR_SET([ss_cache], [yes])], [AS_VAR_SET([ss_cache], [no])])])
      CFLAGS=$ss_saved_cflags
      LDFLAGS=$ss_saved_ldflags
    ])
    AS_VAR_IF([ss_cache], [yes], [AS_VAR_APPEND([$1], [" $ss_flag"])])
    AS_VAR_POPDEF([ss_cache])
  done
])

# SS_WARNINGS: WARN_CFLAGS, and --enable-werror.
AC_DEFUN([SS_WARNINGS], [
  AC_ARG_ENABLE([werror], [AS_HELP_STRING([--enable-werror], [treat compiler warnings as errors @<:@no@:>@])],
    [], [enable_werror=no])
  WARN_CFLAGS=
  SS_TRY_FLAGS([WARN_CFLAGS], [-Wall -Wextra -Wshadow -Wstrict-prototypes], [compile])
  AS_IF([test "x$enable_werror" = xyes], [AS_VAR_APPEND([WARN_CFLAGS], [" -Werror"])])
  AC_SUBST([WARN_CFLAGS])
])

# SS_SANITIZER: --enable-sanitizer=address,undefined|thread|...; SANITIZE_FLAGS for compiling and linking.
AC_DEFUN([SS_SANITIZER], [
  AC_ARG_ENABLE([sanitizer],
    [AS_HELP_STRING([--enable-sanitizer=LIST], [build with -fsanitize=LIST, e.g. address,undefined or thread @<:@no@:>@])],
    [], [enable_sanitizer=no])
  SANITIZE_FLAGS=
  AS_CASE([$enable_sanitizer],
    [no], [],
    [yes], [AC_MSG_ERROR([--enable-sanitizer needs a list, as in --enable-sanitizer=address,undefined])],
    [SANITIZE_FLAGS="-fsanitize=$enable_sanitizer -fno-sanitize-recover=all -fno-omit-frame-pointer"
     ss_saved_cflags=$CFLAGS
     CFLAGS="$CFLAGS $SANITIZE_FLAGS"
     AC_MSG_CHECKING([whether $CC links with -fsanitize=$enable_sanitizer])
     AC_LINK_IFELSE([AC_LANG_PROGRAM()], [AC_MSG_RESULT([yes])],
       [AC_MSG_RESULT([no])
        AC_MSG_ERROR([$CC cannot link with -fsanitize=$enable_sanitizer; see config.log])])
     CFLAGS=$ss_saved_cflags])
  AC_SUBST([SANITIZE_FLAGS])
])

# SS_HARDENING: HARDEN_CPPFLAGS, HARDEN_CFLAGS, HARDEN_LDFLAGS, PIE_LDFLAGS; --disable-hardening.  After SS_SANITIZER.
AC_DEFUN([SS_HARDENING], [
  AC_ARG_ENABLE([hardening],
    [AS_HELP_STRING([--disable-hardening], [leave out stack protector, _FORTIFY_SOURCE, PIE, RELRO ...])],
    [], [enable_hardening=yes])
  HARDEN_CPPFLAGS= HARDEN_CFLAGS= HARDEN_LDFLAGS= PIE_LDFLAGS=
  AS_IF([test "x$enable_hardening" = xyes], [
    SS_TRY_FLAGS([HARDEN_CFLAGS],
      [-fstack-protector-strong -fstack-clash-protection -fcf-protection -fPIE], [compile])
    SS_TRY_FLAGS([HARDEN_LDFLAGS], [-Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack], [link])
    SS_TRY_FLAGS([PIE_LDFLAGS], [-pie], [link])
    # glibc wants optimisation for it and the sanitizers do its work better; whoever set it knows why
    AC_MSG_CHECKING([for a level of _FORTIFY_SOURCE])
    ss_fortify=no
    AS_CASE([" $CPPFLAGS $CFLAGS "],
      [*_FORTIFY_SOURCE*], [ss_fortify="as given"],
      [*" -O0 "*], [],
      [*" -O"*], [AS_IF([test "x$enable_sanitizer" = xno], [
        ss_saved_cflags=$CFLAGS
        for ss_level in 2 3; do
          CFLAGS="$ss_saved_cflags -Werror -D_FORTIFY_SOURCE=$ss_level"
          AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[#include <string.h>]])], [ss_fortify=$ss_level])
        done
        CFLAGS=$ss_saved_cflags])])
    AC_MSG_RESULT([$ss_fortify])
    AS_CASE([$ss_fortify], [2|3], [HARDEN_CPPFLAGS="-D_FORTIFY_SOURCE=$ss_fortify"])
  ])
  AC_SUBST([HARDEN_CPPFLAGS])
  AC_SUBST([HARDEN_CFLAGS])
  AC_SUBST([HARDEN_LDFLAGS])
  AC_SUBST([PIE_LDFLAGS])
])
