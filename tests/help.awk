# SPDX-License-Identifier: MIT
# help.awk - print a Makefile's targets and variables from its own comments.
/^# Variables:/ { vars = 1; print "Variables:"; next }
vars && /^#   / { sub(/^#/, ""); print; next }
vars { vars = 0 }
/^##@ / { sub(/^##@ /, ""); printf "\n%s:\n", $0; next }
/^[a-zA-Z0-9_-]+:.*## / {
	split($0, a, ":")
	t = $0
	sub(/^.*## /, "", t)
	printf "  %-14s %s\n", a[1], t
}
