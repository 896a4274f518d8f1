# SPDX-License-Identifier: Apache-2.0
# bash completion for penstock: commands, verbs, options, and names asked of the daemon.

# _penstock_names COLLECTION: one name per line; nothing when no daemon answers.
_penstock_names()
{
	penstock "$1" list --json 2>/dev/null | sed -n 's/^    "\(name\|nqn\|id\)": "\{0,1\}\([A-Za-z0-9._:@-]*\).*/\2/p'
}

_penstock()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	local command=${COMP_WORDS[1]} verb=${COMP_WORDS[2]} words=

	case $prev in
	--tenant) words=$(_penstock_names tenant) ;;
	--profile) words=$(_penstock_names profile) ;;
	--pool) words=$(_penstock_names pool) ;;
	--role) words="admin operator tenant viewer metrics" ;;
	--ana) words="optimized non-optimized inaccessible persistent-loss change" ;;
	--size | --quota | --group | --ana-group | --reserve | --limit | --weight | --burst | --interval | --summary | --api | --expires) return ;;
	*)
		if [ "$COMP_CWORD" = 1 ]; then
			words=$(penstock --help 2>/dev/null | sed -n 's/^  \([a-z-]*\) .*/\1/p')
		elif [[ $cur == -* ]]; then
			words=$(penstock "$command" ${verb:+$([[ $verb != -* ]] && echo "$verb")} --help 2>/dev/null |
				sed -n 's/^  \(--[a-z-]*\).*/\1/p')
		elif [[ $command == volume && $verb == clone || $command == snapshot && $COMP_CWORD -gt 2 && $verb != create && $verb != list ]]; then
			words=$(_penstock_names snapshot)
		elif [[ $command == snapshot && $COMP_CWORD -gt 2 ]]; then
			words=$(_penstock_names volume)
		elif [[ $command == snapshot || $command == volume || $command == tenant || $command == profile || $command == pool || $command == host || $command == port || $command == token ]]; then
			if [ "$COMP_CWORD" = 2 ]; then
				words=$(penstock "$command" --help 2>/dev/null | sed -n 's/^  \([a-z-]*\) .*/\1/p')
			elif [[ $verb != create && $verb != list ]]; then
				words=$(_penstock_names "$command")
			fi
		elif [[ $command == mount || $command == umount ]]; then
			words=$(_penstock_names volume)
		fi
		;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}

complete -o default -F _penstock penstock
