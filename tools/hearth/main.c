/* SPDX-License-Identifier: MIT */
/*
 * main.c - hearth(1): find the verb, run it.
 */
#include "hearth-tool.h"

int main(int argc, char **argv)
{
	return tool_main(argc, argv);
}
