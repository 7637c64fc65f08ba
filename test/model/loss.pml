/*
 * A replica that follows the master at its own pace, and takes its place at any time, again and again: what it had not heard of is
 * lost. With WAIT nobody reads a reply about a write before the replica has heard of it. To read it later than that is the same as
 * here, where the replica hears of it in the step itself: what it knows matters only when it takes over.
 */
byte rlock, rtoken, rfence, rspent, rrev, rended;
byte rjournal[R];
bool rover[N+1];

/* What only the assertion looks at. */
byte promised[R];     /* who was told that this commit is stored */

/* The replica hears of everything up to now. */
inline replicate()
{
	rlock = lock;
	rtoken = token;
	rfence = fence;
	rspent = spent;
	rrev = rev;
	rended = ended;
	for (i : 0 .. R-1) {
		rjournal[i] = journal[i]
	};
	for (i : 1 .. N) {
		rover[i] = over[i]
	};
	i = 0
}

inline wait_for_claim()
{
	skip;
#if !defined(NOWAIT) && !defined(NOWAITCLAIM)
	if
	:: reply == OWN -> replicate()
	:: else
	fi
#endif
}

inline wait_for_commit()
{
	skip;
	if
#if defined(NOWAIT) || defined(NOWAITCOMMIT)
	:: reply != FENCED
#else
	:: reply != FENCED -> replicate()
#endif
#if defined(NOWAIT) || defined(NOWAITFENCED)
	:: reply == FENCED
#else
	:: reply == FENCED -> replicate()
#endif
	fi
}

inline remember(t, r)
{
	skip;
	if
	:: reply != FENCED -> promised[r] = t
	:: else
	fi
}

inline fail_over()
{
	lock = rlock;
	token = rtoken;
	fence = rfence;
	spent = rspent;
	rev = rrev;
	ended = rended;
	for (i : 0 .. R-1) {
		journal[i] = rjournal[i];
		assert(promised[i] == NOBODY || journal[i] == promised[i])               /* D1 */
	};
	for (i : 1 .. N) {
		over[i] = rover[i]
	};
	i = 0;
	printf("  the replica takes over\n")
}

proctype Replica()
{
end:	do
	:: d_step { replicate(); printf("  the replica catches up\n") }
	:: d_step { fail_over() }
	od
}
