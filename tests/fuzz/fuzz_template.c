/* SPDX-License-Identifier: MIT */
/*
 * fuzz_template.c - templates and variables, within small limits.
 *
 * A zero byte parts the template from its variables (JSON); without one the
 * variables are a conversation.
 */
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "../../libclient/jinja.h"
#include "heap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char talk[] =
	"{\"messages\": [{\"role\": \"system\", \"content\": \"Be \\u00e9.\"},"
	"{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": "
	"\"a\"}]}, {\"role\": \"assistant\", \"content\": null, "
	"\"tool_calls\": [{\"function\": {\"name\": \"f\", \"arguments\": "
	"{\"x\": 1.5}}}]}], \"tools\": [{\"type\": \"function\", "
	"\"function\": {\"name\": \"f\", \"parameters\": {}}}], "
	"\"add_generation_prompt\": true, \"bos_token\": \"<s>\"}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const struct jinja_limits lim = { .mem = 7 * n + (768u << 10),
					  .steps = 1u << 19,
					  .now = 1 };
	const char *vars[1] = { talk };
	size_t n_vars[1] = { sizeof(talk) - 1 }, len = n, got;
	char *copy = malloc(n ? n : 1), *out, why[200];
	const char *zero;
	int err;

	memcpy(copy, data, n);
	zero = n ? memchr(copy, 0, n) : NULL;
	if (zero) {
		len = (size_t)(zero - copy);
		vars[0] = zero + 1;
		n_vars[0] = n - len - 1;
	}
	heap_begin();
	err = jinja_render(copy, len, vars, n_vars, 1, &lim, &out, &got, why,
			   sizeof(why));
	heap_end(n);
	if (err && (out || !why[0] || (err != -EINVAL && err != -E2BIG)))
		abort();
	if (!err && (!out || out[got]))
		abort();
	free(out);
	free(copy);
	return 0;
}
