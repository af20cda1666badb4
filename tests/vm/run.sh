#!/bin/bash
# SPDX-License-Identifier: MIT
# run.sh - boot a kernel in QEMU and run scenarios of tests/vm/guest in it.
# Usage: O=build tests/vm/run.sh 6.1|6.12|debug SCENARIO...
#
# Each scenario NAME leaves $O/logs/vm_KERNEL_NAME.log, and its status and
# seconds in .log.rc, as tests/run.sh reports them; $O/logs/vm_KERNEL.console is
# what the guest said. Scenarios with the same "# memory: N MiB" share a boot.
# Exits 0 when all of them ran, however they went; 77, with the reason last, when
# nothing can be booted here.
#
# Variables: LIMIT=S for all scenarios of a boot together (default 400, long
# forms 2400), ACCEL=kvm instead of tcg, SMP= (default 2).
set -eu
cd "$(dirname "$0")/../.."
O=${O:-build}
case $O in /*) ;; *) O=$PWD/$O ;; esac
export O PATH=$PATH:/usr/sbin:/sbin
kernel=$1
shift
scenarios=("$@")
dir=$O/vm/$kernel
logs=$O/logs
console=$logs/vm_$kernel.console
limit=${LIMIT:-${HEARTH_LONG:+2400}}
limit=${limit:-400}
mkdir -p "$logs"
: >"$console"

need() {
	local tool
	for tool; do
		command -v "$tool" >/dev/null && continue
		echo "no $tool"
		exit 77
	done
}
need qemu-system-x86_64 cpio busybox mke2fs depmod xz
tests/vm/kernel.sh "$kernel"
. tests/vm/image.inc

log_of() {
	printf '%s/vm_%s_%s.log' "$logs" "$kernel" "$1"
}

memory_of() {
	local mib
	mib=$(sed -n 's/^# memory: \([0-9]*\) MiB$/\1/p' "tests/vm/guest/$1.sh")
	echo "${mib:-2048}"
}

# boot MIB SCENARIO...: what it says goes to $dir/console
boot() {
	local mib=$1 names rc=0 iommu=intel-iommu
	shift
	[ "${ACCEL:-tcg}" = tcg ] || iommu=intel-iommu,intremap=off
	names=$(printf '%s,' "$@")
	timeout -k 5 "$limit" qemu-system-x86_64 -machine q35 -cpu max \
		-accel "${ACCEL:-tcg}" -smp "${SMP:-2}" -m "$mib" -no-reboot \
		-display none -monitor none -serial "file:$dir/console" \
		-kernel "$dir/vmlinuz" -initrd "$dir/initrd" \
		-device "$iommu" -device edu \
		-drive "file=$O/vm/models.img,format=raw,readonly=on,if=virtio" \
		-append "console=ttyS0 quiet panic=-1 no_timer_check \
			intel_iommu=on iommu.strict=1 hugepages=64 log_buf_len=4M \
			run=${names%,} long=${HEARTH_LONG:+1} \
			limit=$((limit - 30)) ${CMDLINE:-}" </dev/null >"$dir/qemu" 2>&1 || rc=$?
	{
		cat "$dir/qemu"
		tr -d '\r' <"$dir/console"
		[ $rc = 0 ] || echo "qemu: exit status $rc"
	} >"$dir/said"
	cat "$dir/said" >>"$console"
}

# split SCENARIO...: a log and a status for each that was to run
split() {
	local s log rc
	for s; do
		log=$(log_of "$s")
		awk -v b="vm begin $s" -v e="vm end $s " '
			index($0, e) == 1 { exit }
			on { print }
			$0 == b { on = 1 }' "$dir/said" >"$log"
		rc=$(sed -n "s/^vm end $s //p" "$dir/said" | head -n 1)
		if [ -z "$rc" ]; then
			if grep -q "^vm begin $s\$" "$dir/said"; then
				echo "the guest stopped in it" >>"$log"
			else
				tail -n 40 "$dir/said" >"$log"
				echo "the guest never came to it" >>"$log"
			fi
			rc="1 0"
		elif grep -q '^not ok' "$log"; then
			rc="1 ${rc#* }"
		fi
		echo "$rc" >"$log.rc"
	done
}

for s in "${scenarios[@]}"; do rm -f "$(log_of "$s")" "$(log_of "$s").rc"; done
mapfile -t sizes < <(for s in "${scenarios[@]}"; do memory_of "$s"; done | sort -nu)
for mib in "${sizes[@]}"; do
	some=()
	for s in "${scenarios[@]}"; do
		[ "$(memory_of "$s")" = "$mib" ] && some+=("$s")
	done
	boot "$mib" "${some[@]}"
	split "${some[@]}"
done
