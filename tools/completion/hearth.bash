# SPDX-License-Identifier: MIT
# bash completion for hearth(1), printed by: hearth completion bash

_hearth_verbs="run ps ls show fit load stop tokenize bench pull doctor version completion help"

_hearth_options() {
	case $1 in
	run) echo "--help --system --temp --top-k --top-p --min-p --repeat-penalty --presence-penalty --frequency-penalty --penalty-last --seed --max-tokens --ctx --greedy --ignore-eos --stop --raw --template --vars --logprobs --top-logprobs --json --verbose --no-stats" ;;
	ps) echo "--help --json" ;;
	ls) echo "--help --json --quick --quiet" ;;
	show) echo "--help --template --metadata --json" ;;
	fit) echo "--help --ctx --backend --device --gpu-mem --mem --gpu-layers --gpu-prompts --kv-bytes --parallel --step-tokens --json" ;;
	load) echo "--help --ctx" ;;
	stop) echo "--help --all --evict" ;;
	tokenize) echo "--help --pieces --count --decode --no-special --no-bos --json" ;;
	bench) echo "--help --prompt --gen --reps --batch --depth --ctx --count --device --bytes --json" ;;
	pull) echo "--help --dir --sha256 --tries --force --dry-run" ;;
	doctor) echo "--help --json" ;;
	version) echo "--help" ;;
	completion) echo "--help" ;;
	help) echo "--help" ;;
	esac
}

_hearth_kind() {
	case $1 in
	run) echo files ;;
	ps) echo none ;;
	ls) echo none ;;
	show) echo files ;;
	fit) echo files ;;
	load) echo files ;;
	stop) echo resident ;;
	tokenize) echo files ;;
	bench) echo files ;;
	pull) echo none ;;
	doctor) echo none ;;
	version) echo none ;;
	completion) echo none ;;
	help) echo verbs ;;
	esac
}

_hearth() {
	local cur=${COMP_WORDS[COMP_CWORD]} verb='' i words=''
	COMPREPLY=()
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--socket) ((i++)) ;;
		-*) ;;
		*) verb=${COMP_WORDS[i]}; break ;;
		esac
	done
	if [[ -z $verb ]]; then
		words="$_hearth_verbs --help --version --socket"
	elif [[ $cur == -* ]]; then
		words=$(_hearth_options "$verb")
	else
		case $(_hearth_kind "$verb") in
		files) words=$(hearth ls --quiet 2>/dev/null) ;;
		resident) words=$(hearth ps 2>/dev/null |
			awk '!NF { exit } NR > 1 { print $1 }') ;;
		verbs) words=$_hearth_verbs ;;
		esac
	fi
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
	# a model may be any file, too
	if [[ -n $verb && $cur != -* ]]; then
		local f
		while IFS= read -r f; do COMPREPLY+=("$f"); done < <(compgen -f -- "$cur")
	fi
}
complete -o filenames -F _hearth hearth
