/*
 * A replica that follows the master at its own pace and takes its place at any time, any number of
 * times. Writes that have not reached it are lost. With WAIT no reply about a write is read before
 * the write has reached the replica. Reading it later is equivalent to this model, where the write
 * reaches the replica in the same step: the state of the replica matters only when it takes over.
 */
byte rlock, rtoken, rfence, rspent, rrev, rended;
byte rjournal[R];
bool rover[N+1];

/* What only the assertion looks at. */
byte promised[R];     /* the token whose worker learned that this commit is stored */

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
		assert(promised[i] == NO_TOKEN || journal[i] == promised[i])               /* D1 */
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
