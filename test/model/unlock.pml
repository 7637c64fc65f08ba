/* An operator's last resort: the lease is taken from whoever has it, who may be at work, and goes on until it is told. */
inline unlock()
{
	skip;
	if
	:: FINISHED
	:: !FINISHED ->
		if
		:: token != NOBODY ->
			/* Two callbacks may run at once from here on. The one whose lease it was counts no more: S8 says what is left of it. */
			let_go(token);
			ousted[token] = ousted[token] || told[token] == fence;
#ifndef UNLOCKLOCK
#ifndef UNLOCKUNSPENT
			spent = token;
#endif
			ended = token;
			token = NOBODY
#endif
		:: else
		fi;
#ifndef UNLOCKUNSEEN
		record_changed() /* by the fence alone, if nobody has a lease */
#endif
	fi;
	lock = NOBODY;
	printf("  the operator unlocks\n")
}

proctype Operator()
{
end:	do
	:: d_step { unlock() }
	od
}
