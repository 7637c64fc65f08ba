/*
 * An operator's last resort takes the lease from its worker. The worker may go on until it learns
 * of it. With CANCEL, an operator may also cancel the key, which takes the lease and leaves the
 * lock: no other worker begins until the former owner has given it back, or it has expired.
 */
inline unlock()
{
	skip;
	if
	:: FINISHED
	:: !FINISHED ->
		if
		:: token != NO_TOKEN ->
			/*
			 * Two callbacks may run at once from here on. The former owner no longer counts: S8
			 * says what it may still do.
			 */
			let_go(token);
			ousted[token] = ousted[token] || granted_fence[token] == fence;
#if !defined(UNLOCKLOCK) && !defined(CANCELMARK)
#ifndef UNLOCKUNSPENT
			spent = token;
#endif
			ended = token;
			token = NO_TOKEN
#endif
		:: else
		fi;
#ifndef UNLOCKUNSEEN
		record_changed() /* by the fence alone, if no worker has a lease */
#endif
	fi;
#ifdef CANCEL
	if
	:: lock = NO_TOKEN; printf("  the operator unlocks\n")
	:: printf("  the operator cancels\n")
	fi
#else
	lock = NO_TOKEN;
	printf("  the operator unlocks\n")
#endif
}

proctype Operator()
{
end:	do
	:: d_step { unlock() }
	od
}
