/* SPDX-License-Identifier: MIT */
#include "core/peers_page.h"

#include <stdlib.h>
#include <string.h>
#include "core/admin/admin.h"
#include "core/flow/pipeline.h"
#include "core/flow/services/peers.h"

enum { ROWS_USUAL = 100, ROWS_MAX = 1000 };
#define SKIP_MAX 1000000000

/* False: it is there and no such number. */
static bool read_number(const struct admin_request *r, const char *key, uint64_t least, uint64_t most,
			uint64_t *out)
{
	const char *text = admin_argument(r, key);
	char *end;

	if (!text)
		return true;
	const unsigned long long n = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || n < least || n > most)
		return false;
	*out = n;
	return true;
}

static int refuse(FILE *body, const char *what)
{
	fprintf(body, "{\"error\":\"%s\"}\n", what);
	return 400;
}

int peers_page(const struct pipeline *p, const struct admin_request *r, FILE *body)
{
	static const char *const known[] = {"limit", "after", "component", "name", "state", NULL};
	struct peers_query query = {.component = admin_argument(r, "component"),
				    .name = admin_argument(r, "name"),
				    .state = admin_argument(r, "state"),
				    .limit = ROWS_USUAL};

	if (admin_stray_argument(r, known))
		return refuse(body, "the arguments are limit, after, component, name and state");
	if (!read_number(r, "limit", 1, ROWS_MAX, &query.limit))
		return refuse(body, "limit is a number from 1 to 1000");
	if (!read_number(r, "after", 0, SKIP_MAX, &query.skip))
		return refuse(body, "after is \\\"next\\\" of an earlier page");
	return peers_print(p->components, p->n_components, query, body) == 0 ? 200 : 500;
}
