/* SPDX-License-Identifier: MIT */
#include "core/torture/rules.h"

#include <string.h>

static const struct rule_text rules[] = {
	[RULE_DESCRIPTOR_ABI] = {"descriptor-abi",
				 "The entry or a descriptor has a size, kind or table that no host can read",
				 "Define the entry with SS_REGISTER and each struct_size with sizeof."},
	[RULE_DESCRIPTOR_NAME] =
		{"descriptor-name",
		 "A name of a type, output or drop reason is missing, not [a-z0-9_], or taken",
		 "Use [a-z0-9_], at most 63 bytes, each name once."},
	[RULE_DESCRIPTOR_CALLBACK] = {"descriptor-callback", "A callback that the kind needs is missing",
				      "Give every component create and destroy, a processor or sink process, "
				      "a provider extension."},
	[RULE_OPTION_NAME] = {"option-name",
			      "The name of an option is not snake_case, or stands twice in the table",
			      "Use [a-z][a-z0-9_]*, each name once."},
	[RULE_OPTION_HELP] = {"option-help", "An option has no help, or one that is no sentence",
			      "Say in one sentence what the option does, with its unit."},
	[RULE_OPTION_DEFAULT] =
		{"option-default",
		 "A default does not parse as the type of its option, or is out of its range",
		 "Write the default as it would stand in the configuration, strings without quotes."},
	[RULE_OPTION_RANGE] = {"option-range",
			       "An option has its min above its max, or a range that its type has no use for",
			       "Set min and max of SS_OPT_INT, BYTES and DURATION, the lower one first."},
	[RULE_OPTION_OVERLAP] =
		{"option-overlap", "Two options share a place in the conf struct, or one lies outside of it",
		 "Use SS_OPT, which takes the offset of the member, and sizeof for conf_size."},
	[RULE_METRIC_NAME] = {"metric-name",
			      "A metric has a bad name, one of the host's, or one that another row has",
			      "Use semstreams_<type>_..., _total at the end of counters, labels that differ "
			      "where rows share a name."},
	[RULE_EXPORTED_SYMBOL] = {"exported-symbol", "The object exports more than its entry",
				  "Compile with -fvisibility=hidden and link with -Wl,--exclude-libs,ALL or "
				  "a version script."},
	[RULE_UNDEFINED_SYMBOL] =
		{"undefined-symbol", "The object needs a symbol that none of its libraries has",
		 "Link with -Wl,-z,defs and every library that is used; the host exports nothing."},
	[RULE_CRASH] = {"crash", "A signal ended the process in the plugin",
			"Run the plugin under a debugger, or with --valgrind."},
	[RULE_HANG] =
		{"hang", "A callback did not return within --deadline",
		 "Do not wait in callbacks: use timers and descriptors of the loop, or a thread that posts."},
	[RULE_EXIT] = {"exit", "The plugin ended the process",
		       "Return a negative errno; only the host ends the process."},
	[RULE_CREATE_FAILED] = {"create-failed", "create() refused a configuration that is complete",
				"Give the options that the plugin needs with --option or --config."},
	[RULE_START_FAILED] = {"start-failed", "start() failed",
			       "Give addresses and paths that can be used here with --option."},
	[RULE_RESTART_FAILED] = {"restart-failed", "An instance did not start after another one had stopped",
				 "Close in stop() and destroy() all that create() and start() opened."},
	[RULE_DRAIN_HANG] = {"drain-hang", "drain() returned SS_BUSY and drained() was never called",
			     "Call drained() once all that the instance held is out."},
	[RULE_RETURN_UNKNOWN] =
		{"return-unknown", "A callback returned a value that has no meaning",
		 "Return SS_DONE, SS_KEPT, SS_BUSY or a negative errno, as plugin.h says of the callback."},
	[RULE_BATCH_LEAK] = {"batch-leak", "Batches were not given back by the end of the instance",
			     "Call batch_unref() for each batch_new() and batch_ref(), done() for each batch "
			     "that is kept."},
	[RULE_BATCH_RELEASED_TWICE] =
		{"batch-released-twice", "A batch or token was given back more often than it was held",
		 "Call batch_unref() and token_unref() for references of your own only."},
	[RULE_BATCH_WRITTEN] = {"batch-written",
				"The rows or the payload of a batch were written to after it was emitted",
				"Copy what is to be changed into a batch of your own."},
	[RULE_BATCH_KEPT] =
		{"batch-kept", "A batch was used after it had been given back",
		 "Return SS_KEPT or hold a reference as long as a pointer into the batch is kept."},
	[RULE_TOKEN_LEAK] = {"token-leak",
			     "Tokens that were held were not given back by the end of the instance",
			     "Call token_unref() for each token_ref()."},
	[RULE_TRACK_MISUSED] = {"track-misused",
				"A batch was tracked twice, after emit(), or by something that is no source",
				"Call track() once for each batch of a source, before emit()."},
	[RULE_DONE_TWICE] = {"done-twice", "A batch was finished twice",
			     "Call done() exactly once for each batch that is kept."},
	[RULE_DONE_UNASKED] =
		{"done-unasked", "A batch was finished that is not kept",
		 "Call done() for batches only for which process() returned, or returns, SS_KEPT."},
	[RULE_DROP_UNKNOWN] =
		{"drop-unknown",
		 "Events were counted as lost for a reason that the descriptor does not have, or more than "
		 "were given",
		 "List the reasons in the descriptor, and count events that process() was given, once."},
	[RULE_EMIT_AFTER_STOP] = {"emit-after-stop",
				  "A batch was emitted before start() or after drain() had ended",
				  "Emit what is held in drain(), and end timers and threads there."},
	[RULE_EMIT_WRONG_THREAD] =
		{"emit-wrong-thread",
		 "A function of the host that belongs to the loop was called from another thread",
		 "Hand over to the loop with post() of semstreams.loop/1."},
	[RULE_EMIT_OVER_CAPACITY] = {"emit-over-capacity",
				     "A batch was emitted with more rows than it has room for",
				     "Ask batch_new() for as many rows as are written."},
	[RULE_EMIT_FOREIGN_MEMORY] =
		{"emit-foreign-memory", "A row of an emitted batch points outside the memory of its batch",
		 "Copy the bytes into the batch, or make the batch from the parent that has them."},
	[RULE_EMIT_NULL] = {"emit-null",
			    "No batch, one that the host did not make, or a row without data was emitted",
			    "Check what batch_new() returned, and fill in every row up to count."},
	[RULE_EMIT_UNKNOWN_PORT] = {"emit-unknown-port",
				    "A batch was emitted to an output that the descriptor does not have",
				    "List the outputs in the descriptor; the first is 0."},
	[RULE_BUSY_WITHOUT_INPUT_READY] = {"busy-without-input-ready",
					   "process() returned SS_BUSY and input_ready() was never called",
					   "Call input_ready() once the instance can take the batch."},
	[RULE_BUSY_LOST] =
		{"busy-lost",
		 "A batch was refused with SS_BUSY, and its events were emitted, counted or finished anyway",
		 "Return SS_BUSY before anything of the batch is used: it comes again, whole."},
	[RULE_CYCLE_MEMORY] = {"cycle-memory", "Memory grows with every life of an instance",
			       "Free in destroy() and stop() all that create() and start() allocated."},
	[RULE_CYCLE_DESCRIPTORS] = {"cycle-descriptors",
				    "Open descriptors grow with every life of an instance",
				    "Close in stop() all that start() opened."},
	[RULE_CYCLE_THREADS] = {"cycle-threads", "Threads grow with every life of an instance",
				"Join in stop() every thread that start() made."},
	[RULE_ALLOCATION_CRASH] =
		{"allocation-crash",
		 "The plugin crashed, ended the process or hung after an allocation had failed",
		 "Check every allocation, and return -ENOMEM."},
	[RULE_ALLOCATION_LEAK] = {"allocation-leak",
				  "Memory or batches were lost after an allocation had failed",
				  "Free on the way out of a failure what was allocated before it."},
	[RULE_GLOBAL_STATE] = {"global-state", "Two instances disturb each other",
			       "Keep everything in the instance, nothing in static variables."},
	[RULE_STDOUT] = {"stdout", "The plugin wrote to standard output or standard error",
			 "Use log() of the host."},
	[RULE_SIGNAL_HANDLER] = {"signal-handler", "The plugin changed what a signal does",
				 "Leave signals to the host."},
	[RULE_LOCALE_OR_UMASK] =
		{"locale-or-umask",
		 "The plugin changed the locale, umask, working folder or signal mask of the process",
		 "Use functions that take what is needed as an argument, as openat() and newlocale()."},
	[RULE_VALGRIND_ERROR] =
		{"valgrind-error", "valgrind saw memory misused",
		 "Compile with -g, so that valgrind names the line, and look at what it says there."},
	[RULE_VALGRIND_LEAK] = {"valgrind-leak", "valgrind saw memory that nothing points to any more",
				"Free it; valgrind names the line that allocated it."},
};
_Static_assert(sizeof rules / sizeof rules[0] == RULES, "a text for each rule");

const struct rule_text *rule_text(enum rule rule)
{
	return &rules[rule];
}

enum rule rule_find(const char *name)
{
	int i = 0;

	while (i < RULES && strcmp(rules[i].name, name) != 0)
		i++;
	return (enum rule)i;
}

void rules_print(enum rules_form form, FILE *out)
{
	if (form == RULES_JSON)
		fputs("[\n", out);
	else if (form == RULES_MARKDOWN)
		fputs("| rule | a breach | remedy |\n|---|---|---|\n", out);
	for (int i = 0; i < RULES; i++) {
		const struct rule_text *r = &rules[i];
		/* no text has a character that JSON would escape */
		if (form == RULES_JSON)
			fprintf(out, "  {\"rule\": \"%s\", \"says\": \"%s.\", \"remedy\": \"%s\"}%s\n",
				r->name, r->says, r->remedy, i + 1 < RULES ? "," : "");
		else if (form == RULES_MARKDOWN)
			fprintf(out, "| `%s` | %s. | %s |\n", r->name, r->says, r->remedy);
		else
			fprintf(out, "%-26s %s.\n", r->name, r->says);
	}
	if (form == RULES_JSON)
		fputs("]\n", out);
}
