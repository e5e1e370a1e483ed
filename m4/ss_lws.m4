# SS_LWS_OPENSSL: have_lws becomes no, with a warning, if libwebsockets cannot be used because of its TLS library; an error
# if it was asked for; ss_lws_missing is what to install.  After SS_LIBRARY([lws]) and SS_LIBRARY_NEEDED([openssl]).
AC_DEFUN([SS_LWS_OPENSSL], [
  ss_lws_missing="libwebsockets-dev libwebsockets-evlib-ev libssl-dev"
  AS_IF([test "x$have_lws" = xyes], [
    ss_saved_cflags=$CFLAGS ss_saved_libs=$LIBS
    CFLAGS="$CFLAGS $LWS_CFLAGS $OPENSSL_CFLAGS" LIBS="$LWS_LIBS $OPENSSL_LIBS $LIBS"
    AC_CACHE_CHECK([whether libwebsockets does TLS by OpenSSL], [ss_cv_lws_openssl], [
      AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[
#include <libwebsockets.h>
#if defined(LWS_WITH_GNUTLS) || defined(LWS_WITH_MBEDTLS) || !defined(LWS_WITH_TLS)
#error "not OpenSSL"
#endif
]])], [
        # what the headers say is what the library does, if it hands out the SSL_CTX of a listener
        AC_RUN_IFELSE([AC_LANG_SOURCE([[
#include <string.h>
#include <libwebsockets.h>
#include <openssl/ssl.h>

static int seen;
static int on_lws(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
	(void)wsi, (void)in, (void)len;
	if (reason == LWS_CALLBACK_OPENSSL_LOAD_EXTRA_SERVER_VERIFY_CERTS)
		seen = user && SSL_CTX_set_min_proto_version(user, TLS1_3_VERSION) == 1 &&
		       SSL_CTX_get_min_proto_version((SSL_CTX *)user) == TLS1_3_VERSION;
	return 0;
}

int main(void)
{
	struct lws_protocols protocols[2];
	struct lws_context_creation_info info;
	struct lws_context *cx;

	memset(protocols, 0, sizeof protocols);
	protocols[0].name = "x";
	protocols[0].callback = on_lws;
	memset(&info, 0, sizeof info);
	info.uid = (uid_t)-1;
	info.gid = (gid_t)-1;
	info.options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS;
	lws_set_log_level(0, NULL);
	cx = lws_create_context(&info);
	if (!cx)
		return 2;
	info.options = LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT | LWS_SERVER_OPTION_CREATE_VHOST_SSL_CTX;
	info.port = CONTEXT_PORT_NO_LISTEN_SERVER;
	info.protocols = protocols;
	if (!lws_create_vhost(cx, &info))
		return 3;
	lws_context_destroy(cx);
	return !seen;
}
]])], [ss_cv_lws_openssl=yes], [ss_cv_lws_openssl=no], [ss_cv_lws_openssl="yes by its headers, not tried"])
      ], [ss_cv_lws_openssl=no])
    ])
    CFLAGS=$ss_saved_cflags LIBS=$ss_saved_libs
    AS_IF([test "x$ss_cv_lws_openssl" = xno], [
      have_lws=no ss_lws_missing="a libwebsockets on OpenSSL"
      ss_lws_why="libwebsockets is not built on OpenSSL.  On GnuTLS or mbedTLS it ignores client certificates and the names in servers' certificates; build it with -DLWS_WITH_GNUTLS=OFF -DLWS_WITH_MBEDTLS=OFF -DLWS_WITH_HTTP3=OFF"
      AS_CASE(["$with_lws $enable_plugin_websocket_output $enable_plugin_websocket_input"],
        [*yes*], [AC_MSG_ERROR([$ss_lws_why])],
        [AC_MSG_WARN([the WebSocket plugins are left out: $ss_lws_why])])
    ])
  ])
])
