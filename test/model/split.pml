/*
 * While a cluster moves a slot, a call may do the work of a script in steps with one key each, and
 * any step may be the last. A try in steps and one in a single script may follow each other in any
 * order, since the slot arrives meanwhile.
 */

/*
 * The control of the record in a claim is one bit here: whether it is still what the worker saw
 * before it took the lock. A spent token that another worker leaves behind does not count as a
 * change: claims then succeed here that fail on a server.
 */
bool looked[N+1];     /* the worker has read control, and no worker has claimed, committed or given up the lease since */
bool armed[N+1];      /* a claim is under way that says so, of a worker who has taken the lock since */
bool one[(N+1)*R];    /* commits of the record alone that keep the lease, by worker and revision */
bool onefin[(N+1)*R]; /* and those that do not */
bool freed[N+1];      /* the lock is given back */

/* What only the assertions look at. */
bool fresh[N+1];      /* the time for which the worker took the lock last is not over */
bool lapsed[N+1];     /* that time was over at least once since the record gave or kept the lease */
bool robbed[N+1];     /* another token was granted the lease though it was not */
byte j;               /* scratch */

inline take_lock(t)
{
	lock = t;
	fresh[t] = true
}

#define TIMED(t) fresh[t]
inline expire(t)
{
	fresh[t] = false;
	lapsed[t] = true;
	if
	:: lock == t -> lock = NO_TOKEN
	:: else
	fi
}

inline record_changed()
{
#ifndef CLAIMUNSEEN
	for (j : 1 .. N) {
		looked[j] = false;
		armed[j] = false
	};
	j = 0
#else
	skip
#endif
}

inline lease_begins(t)
{
	lapsed[t] = !fresh[t] /* in steps the lock may have run out already */
}

/*
 * A claim that is repeated changes nothing in the record, though its lock may have run out in
 * between.
 */
inline lease_repeated(t)
{
#ifdef REPEATED
	lapsed[t] = !fresh[t]
#else
	skip
#endif
}

inline rob(t)
{
	robbed[t] = robbed[t] || (token == t && fence == granted_fence[t] && !lapsed[t] && !gaveup[t])
}

inline not_robbed(t)
{
#ifdef REPEATED
	assert(!robbed[t])                                                               /* L3 */
#else
	assert(!robbed[t])                                                               /* S7 */
#endif
}

/* The lock's own script: redislock takes an absent lock and one that has the same value. */
inline obtain(t)
{
	skip;
	if
	:: lock == NO_TOKEN || lock == t -> take_lock(t); printf("  obtain by %d: obtained\n", t)
	:: else -> printf("  obtain by %d: refused\n", t)
	fi
}

inline claim_record(t, has)
{
	skip;
	if
	:: FINISHED -> reply = DONE
	:: !FINISHED && spent == t -> reply = STALE
	:: !FINISHED && spent != t && want[t] != ANY && want[t] != rev -> reply = MOVED
	:: !FINISHED && spent != t && (want[t] == ANY || want[t] == rev) ->
		if
		:: has && token == t -> reply = OWN
		:: has && token != t && armed[t] -> grant(t); reply = OWN
		:: else -> reply = BUSY
		fi
	fi;
	printf("  claim of the record by %d of revision %d (%d: any): %e, fence %d\n", t, want[t], ANY, reply, fence)
}

inline commit_record(t, r, kept)
{
	skip;
	if
	:: rev > r ->
		if
		:: journal[r] == t ->
			if
			:: token == t && fence == granted_fence[t] -> reply = HELD
			:: else -> reply = STORED
			fi
		:: else -> reply = FENCED
		fi
	:: rev == r && token == t && fence == granted_fence[t] ->
		store(t, r);
		if
		:: kept -> lease_begins(t); reply = HELD
		:: !kept -> token = NO_TOKEN; end_lease(t); reply = STORED
		fi
	:: else -> reply = FENCED
	fi;
	printf("  commit of the record by %d of revision %d, keep %d, fence %d: %e\n", t, r, kept, granted_fence[t], reply)
}

/* Gives the lock back behind what changed the record. */
inline release(t)
{
	skip;
	if
	:: lock == t -> lock = NO_TOKEN
	:: else
	fi;
	printf("  release by %d\n", t)
}

/* The first step of a commit: a lease can be kept only by the worker that has the lock. */
inline take_for_commit(t)
{
	skip;
	if
#ifdef KEEPUNTAKEN
	:: keep[AT(t, v)] -> taken = true
#else
	:: keep[AT(t, v)] -> obtain(t); taken = (lock == t)
#endif
#ifdef FREEFIRST
	:: !keep[AT(t, v)] -> release(t)
#endif
	:: else
	fi;
	if
	:: taken -> one[AT(t, v)] = true
	:: else -> onefin[AT(t, v)] = true
	fi
}

/*
 * The worker's time counts from before it asked first, so it does not believe in a lease whose lock
 * has run out before the reply arrived, as may be between two steps, or between the first try and
 * the one whose reply it reads.
 */
inline start(t)
{
	skip;
	if
	:: !lapsed[t] -> run_callback(t)
	:: else -> printf("worker %d: has a lease whose time is over\n", t)
	fi
}
