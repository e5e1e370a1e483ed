/* SPDX-License-Identifier: MIT */
/* page - see page.h.  The files are in core/admin/page/; make turns each into a C string. */
#include "core/admin/page.h"

#include <stdio.h>

static const char html[] =
#include "core/admin/page/index.html.inc"
	;
static const char css[] =
#include "core/admin/page/page.css.inc"
	;
static const char script[] =
#include "core/admin/page/page.js.inc"
	;
static const char icon[] =
#include "core/admin/page/icon.svg.inc"
	;

static int put(const char *text, FILE *body)
{
	fputs(text, body);
	return 200;
}

static int put_html(void *arg, FILE *body)
{
	(void)arg;
	return put(html, body);
}

static int put_css(void *arg, FILE *body)
{
	(void)arg;
	return put(css, body);
}

static int put_script(void *arg, FILE *body)
{
	(void)arg;
	return put(script, body);
}

static int put_icon(void *arg, FILE *body)
{
	(void)arg;
	return put(icon, body);
}

const struct admin_page page_files[] = {
	{.path = "/", .content_type = "text/html; charset=utf-8", .write = put_html},
	{.path = "/page.css", .content_type = "text/css; charset=utf-8", .write = put_css},
	{.path = "/page.js", .content_type = "text/javascript; charset=utf-8", .write = put_script},
	{.path = "/icon.svg", .content_type = "image/svg+xml", .write = put_icon},
	{.path = NULL},
};
