/* SPDX-License-Identifier: MIT */
/*
 * sandbox.h - what the engine, parsers and loaders give up before they meet a stranger.
 *
 * sandbox_drop() before anything is opened: another user, namespaces without
 * network, limits, no file system (Landlock). sandbox_filter() last: only the
 * system calls of the loop remain (seccomp). What this kernel does not offer
 * is logged once and done without; what it offers must work.
 */
#ifndef HEARTH_SANDBOX_H
#define HEARTH_SANDBOX_H

#include "conf.h"

enum sandbox_kind {
	SANDBOX_ENGINE,
	SANDBOX_PARSER,
	SANDBOX_LOADER,
	SANDBOX_GPU, /* an engine with a GPU: what its driver opens, too */
};

int sandbox_drop(const struct conf *conf, enum sandbox_kind kind);
int sandbox_filter(const struct conf *conf, enum sandbox_kind kind);

/**
 * sandbox_user() - resolve the user children run as
 * @conf: user is replaced by "UID:GID", or by "" when nothing is to change
 * Return: 0 or -errno.
 */
int sandbox_user(struct conf *conf);

/**
 * sandbox_try() - attempt everything that is forbidden; for tests
 *
 * Called inside a sandbox. Prints a line for each action.
 * Return: how many were possible.
 */
int sandbox_try(enum sandbox_kind kind);

#endif
