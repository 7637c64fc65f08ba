/*
 * The protocol of redisidem: one key, N workers, R revisions, and a network that repeats and delays
 * as it likes.
 *
 * Every script is one atomic step, as on the server. Whatever a worker has sent may arrive at any
 * later time, any number of times, or never; a worker may miss any reply, ask again with the same
 * token, and stop anywhere; a lock may expire whenever its owner does not believe in its lease any
 * more. None of this is bounded: the state space is finite because nothing is counted (see grant
 * for the fence). A worker is its token: 1 to N.
 *
 * README.md says what is left out, what each assertion means and what each -D of a broken variant
 * breaks.
 */
#ifndef N
#define N 2
#endif
#ifndef R
#define R 2
#endif
#define NO_TOKEN 0
#define ANY R         /* a claim that takes any revision; the others name one of 0 to R-1 */
#define FINISHED (rev == R)

mtype = { OWN, BUSY, MOVED, STALE, DONE, HELD, STORED, FENCED, LOST, RETURNED, UNMET };

/* What Redis has. */
byte lock;            /* value of the lock's key, NO_TOKEN when absent */
byte token;           /* of the lease that may commit */
byte fence;           /* its number */
byte spent;           /* last token that ended its lease: its claims come too late */
byte rev;             /* commits accepted so far; the record is finished after R of them */
byte journal[R];      /* who committed each revision */

/* What the messages of a worker carry, and whether they have been sent. */
bool asked[N+1];      /* claim */
byte want[N+1];       /* the revision the claim names */
byte granted_fence[N+1];       /* fence in the claim's reply, 0 before it arrives; renewals and commits carry it */
bool sent[(N+1)*R];   /* commits, by worker and revision */
bool keep[(N+1)*R];   /* whether the commit keeps the lease */
bool gaveup[N+1];     /* abandon */
#define AT(t, r) ((t)*R + (r))

#ifdef UNLOCK
bool ousted[N+1];     /* an operator took the lease that the worker was granted */
#define OUSTED(t) ousted[t]
#else
#define OUSTED(t) false
#endif

#ifdef SPLIT
#include "split.pml"
#else
#define take_lock(t) lock = t
#define record_changed() skip
#define lease_begins(t) skip
#define lease_repeated(t) skip
#define rob(t) skip
#define not_robbed(t) skip
#define expire(t) lock = NO_TOKEN
#define TIMED(t) false
#define start(t) run_callback(t)
#endif

/* What only the assertions look at. */
bool holds[N+1];      /* the callback runs and its worker believes in the lease */
byte holders;         /* how many do */
bool contested[N+1];  /* another token was granted the lease since this one learned of its own */
bool haunted[N+1];    /* the same, but by a token that had not ended its lease before */
bool fenced[(N+1)*R]; /* the worker learned that this commit is refused for ever */
bool over[N+1];       /* the token has ended its lease */
byte ended;           /* the last one that did */


#ifndef LOSS
#define wait_for_claim() skip
#define wait_for_commit() skip
#define remember(t, r) skip
#endif

/*
 * Scratch, reset within the step that uses it. Hidden variables would not do: Spin does not restore
 * them on its way back.
 */
mtype reply;          /* of the script that just ran */
byte i, top;

#ifdef LOSS
#include "loss.pml"
#endif

#ifdef ABSENT
#include "absent.pml"
#else
#define RECORD true
#define make_record() skip
#define not_returned(t) skip
#endif

/* Inlines open with skip: the else of an enclosing selection would merge with theirs. */

/*
 * A new lease. The fence grows past every number that a worker has received. A number that no
 * worker has received can be handed out again without anyone seeing it, and that keeps the fence,
 * and with it the state space, finite.
 */
inline grant(t)
{
	assert(t != ended);                                                              /* S5 */
	not_returned(t);
#ifdef ORPHAN
	assert(!over[t]);                                                                /* L1 */
#endif
	top = 0;
	for (i : 1 .. N) {
		if
		:: granted_fence[i] > top -> top = granted_fence[i]
		:: else
		fi;
		if
		:: i != t && granted_fence[i] != 0 ->
			contested[i] = true;
			haunted[i] = haunted[i] || !over[t];
			rob(i)
		:: else
		fi
	};
	record_changed();
	lease_begins(t);
	token = t;
#ifdef SAMEFENCE
	fence = 1
#else
	fence = top + 1
#endif
	i = 0;
	top = 0
}

/* A claim looks at the record first. It takes the lock only with the lease. */
inline claim(t)
{
	make_record();
	top = lock;
#ifdef LOCKFIRST
	if
	:: lock == NO_TOKEN -> take_lock(t)
	:: else
	fi;
#endif
	if
	:: FINISHED -> reply = DONE
#ifndef NOSPENT
	:: !FINISHED && spent == t -> reply = STALE
#define LIVE (!FINISHED && spent != t)
#else
#define LIVE (!FINISHED)
#endif
#ifndef NOREVCLAIM
	:: LIVE && want[t] != ANY && want[t] != rev -> reply = MOVED
	:: LIVE && (want[t] == ANY || want[t] == rev) ->
#else
	:: LIVE ->
#endif
		if
#ifndef NOLOCK
		:: lock != NO_TOKEN && lock != t -> reply = BUSY
		:: lock == NO_TOKEN || lock == t ->
#else
		:: true ->
#endif
			top = 0;
			take_lock(t);
			if
			:: token == t -> lease_repeated(t)
			:: else -> grant(t)
			fi;
			reply = OWN
		fi
	fi;
	assert(reply == OWN || lock == top);                                             /* S6 */
	top = 0;
	printf("  claim by %d of revision %d (%d: any): %e, fence %d\n", t, want[t], ANY, reply, fence)
}

/* What makes a commit acceptable. */
#ifdef LOCKONLY
#define ENTITLED(t) (lock == t)
#elif defined(NOFENCE)
#define ENTITLED(t) (token == t)
#elif defined(NAIVE)
#define ENTITLED(t) (token == t && fence == granted_fence[t] && lock == t)
#else
#define ENTITLED(t) (token == t && fence == granted_fence[t])
#endif

/* The only write of a result. */
inline store(t, r)
{
	assert(rev < R && journal[rev] == NO_TOKEN);                                       /* S1 */
	assert(r == rev);                                                                /* S1 */
	assert(!fenced[AT(t, r)]);                                                       /* S2 */
	assert(!over[t]);                                                                /* S5 */
	assert(!OUSTED(t));                                                              /* S8 */
	record_changed();
	journal[rev] = t;
	rev++
}

/* The lease of t ends here. */
inline end_lease(t)
{
	spent = t;
	ended = t;
	over[t] = true
}

inline commit(t, r)
{
	skip;
#ifdef COMMITBLIND
	lock = NO_TOKEN;
#endif
	if
#ifdef NOREV
	:: ENTITLED(t) ->
#else
	:: rev > r ->
		if
#ifndef NOJOURNAL
		:: journal[r] == t ->
			if
			:: token == t && fence == granted_fence[t] && lock == t -> reply = HELD
			:: else -> reply = STORED
			fi
#endif
		:: else -> reply = FENCED
		fi
	:: rev == r && ENTITLED(t) ->
#endif
		store(t, r);
		if
#ifdef KEEPANYWAY
		:: keep[AT(t, r)] -> reply = HELD
#else
		:: keep[AT(t, r)] && (lock == NO_TOKEN || lock == t) -> take_lock(t); lease_begins(t); reply = HELD
		:: keep[AT(t, r)] && lock != NO_TOKEN && lock != t -> token = NO_TOKEN; end_lease(t); reply = STORED
#endif
		:: !keep[AT(t, r)] ->
			token = NO_TOKEN;
			end_lease(t);
			if
			:: lock == t -> lock = NO_TOKEN
			:: else   /* the lock lapsed, and may be another's */
			fi;
			reply = STORED
		fi
	:: else -> reply = FENCED
	fi;
	printf("  commit by %d of revision %d, keep %d, fence %d: %e\n", t, r, keep[AT(t, r)], granted_fence[t], reply)
}

inline renew(t)
{
	skip;
	if
#ifdef RENEWBLIND
	:: lock = t; reply = HELD
#else
	:: token == t && fence == granted_fence[t] && (lock == NO_TOKEN || lock == t) -> take_lock(t); reply = HELD
	:: else -> reply = LOST
#endif
	fi;
	printf("  renewal by %d: %e\n", t, reply)
}

/* The record's part of an abandon. */
inline give_up_record(t)
{
	skip;
	if
	:: FINISHED || !RECORD
#ifdef ABANDONOWN
	:: RECORD && !FINISHED && token != t -> ended = t; over[t] = true
	:: RECORD && !FINISHED && token == t -> token = NO_TOKEN; end_lease(t)
#else
	:: RECORD && !FINISHED ->
		if
		:: token == t -> token = NO_TOKEN; record_changed()
		:: else
		fi;
		end_lease(t)
#endif
	fi
}

inline abandon(t)
{
	give_up_record(t);
	if
#ifdef ABANDONBLIND
	:: true -> lock = NO_TOKEN
#else
	:: lock == t -> lock = NO_TOKEN
	:: else
#endif
	fi;
	printf("  abandon by %d\n", t)
}

/* The reply to a commit is true. */
inline check_outcome(t)
{
	if
	:: reply == FENCED ->
		assert(journal[v] != t);                                                 /* S2 */
		assert(contested[t] || OUSTED(t));                                       /* S4 */
		not_robbed(t);
#ifdef HAUNT
		assert(haunted[t]);                                                      /* L2 */
#endif
		fenced[AT(t, v)] = true;
		printf("worker %d: knows that its result is not stored\n", t)
	:: else ->
		assert(journal[v] == t);                                                 /* S2 */
		printf("worker %d: knows that its result is stored\n", t)
	fi
}

/* The fence that a worker receives is larger than any that was received before. */
inline check_growth(t)
{
	for (i : 1 .. N) {
		assert(i == t || fence > granted_fence[i])                                        /* S3 */
	};
	i = 0
}

/*
 * A callback begins, or goes on under a kept lease: its worker believes in the lease until the
 * watchdog ends that belief.
 */
inline run_callback(t)
{
	holds[t] = true;
	holders++;
	assert(holders == 1);                                                            /* S3 */
	printf("worker %d: runs the callback of revision %d\n", t, v)
}

/* The belief ends: the watchdog bit, or the callback is done. */
inline let_go(t)
{
	if
	:: holds[t] -> holds[t] = false; holders--
	:: else
	fi
}

/*
 * A worker may stop at any label for good: nothing forces it on. So a crash, a long pause and a
 * timeout need no steps of their own.
 */
proctype Worker(byte t)
{
	byte v;       /* the revision it works on */
#ifdef SPLIT
	bool taken;   /* it learned that it has the lock, in the steps of one call */
#endif

	/* It has read the record some time ago (WorkStage), or claims blindly (Do, Lock). */
	if
	:: d_step { RECORD && !FINISHED -> want[t] = rev; asked[t] = true;
		printf("worker %d: claims revision %d\n", t, want[t]) }
	:: d_step { want[t] = ANY; asked[t] = true;
		printf("worker %d: claims any revision\n", t) }
	fi;

claiming:
	if
	:: true
#ifdef SPLIT
	:: d_step { looked[t] = true; printf("  control is read by %d\n", t) } goto looking
#endif
	:: goto abandoning
	fi;
	if
	:: atomic {
		d_step {
			claim(t);
			wait_for_claim();
			if
			:: reply == OWN ->
				v = (want[t] == ANY -> rev : want[t]);
				assert(v == rev);                                        /* S3 */
				check_growth(t);
				granted_fence[t] = fence;
				start(t)
			:: else
			fi
		};
		if
		:: reply == OWN -> reply = 0; goto working
		:: reply == BUSY -> reply = 0; goto claiming /* it waits, with the same token */
		:: else -> reply = 0; goto stop
		fi
	   }
	:: goto claiming                                 /* no reply: once more, with the same token */
	:: goto abandoning
	fi;

#ifdef SPLIT
#include "split_claim.pml"
#endif

working:
	if
	:: d_step { v + 1 < R -> let_go(t); sent[AT(t, v)] = true; keep[AT(t, v)] = true;
		printf("worker %d: commits revision %d and keeps the lease\n", t, v) }
	:: d_step { let_go(t); sent[AT(t, v)] = true;
		printf("worker %d: commits revision %d\n", t, v) }
	:: goto abandoning                               /* the callback failed */
	fi;

committing:
	/*
	 * The network repeats a commit whose reply was lost, so it is enough to read the reply of one.
	 */
	if
	:: atomic {
		d_step {
			commit(t, v);
			wait_for_commit();
			check_outcome(t);
			remember(t, v)
		};
		if
		:: reply == HELD && keep[AT(t, v)] ->
			d_step { reply = 0; v++; start(t) };
			goto working
		:: else -> reply = 0; goto stop
		fi
	   }
#ifdef ABANDONUNKNOWN
	:: d_step { !gaveup[t] -> gaveup[t] = true; printf("worker %d: gives up, asks on\n", t) };
	   goto committing
#endif
#ifdef SPLIT
	:: d_step { take_for_commit(t) } goto committing_record
#endif
	fi;

#ifdef SPLIT
	goto abandoning;
#include "split_commit.pml"
#endif

abandoning:
	atomic { let_go(t); gaveup[t] = true; printf("worker %d: gives up\n", t) }
#ifdef ABSENT

	/*
	 * The caller has left. In the background the give-back is repeated until its reply says that it
	 * has met its claim.
	 */
returning:
	if
	:: atomic {
		d_step { give_back_claim(t) };
		if
		:: reply == RETURNED -> reply = 0; goto stop
		:: else -> reply = 0; goto returning
		fi
	   }
	:: goto stop
	fi;
#endif

stop:	skip
}

/*
 * What the network and the clocks may do to one worker. Its own calls are in Worker, with their
 * replies; here are all executions whose reply is not read: late, repeated, or lost.
 */
proctype World(byte t)
{
end:	do
	:: d_step { !holds[t] && (lock == t || TIMED(t)) -> expire(t); printf("  the lock of %d expires\n", t) }
	:: d_step { holds[t] -> let_go(t); printf("worker %d: stops believing in its lease\n", t) }
	:: d_step { asked[t] -> claim(t); reply = 0 }
	:: d_step { granted_fence[t] != 0 -> renew(t); reply = 0 }
	:: d_step { gaveup[t] -> abandon(t) }
	:: d_step { sent[AT(t, 0)] -> commit(t, 0); reply = 0 }
#if R > 1
	:: d_step { sent[AT(t, 1)] -> commit(t, 1); reply = 0 }
#endif
#if R > 2
	:: d_step { sent[AT(t, 2)] -> commit(t, 2); reply = 0 }
#endif
#if R > 3
	:: d_step { sent[AT(t, 3)] -> commit(t, 3); reply = 0 }
#endif
#ifdef SPLIT
#include "split_world.pml"
#endif
#if R > 4
#error the late duplicates of more commits would be missing here
#endif
	od
}

#ifdef UNLOCK
#include "unlock.pml"
#endif

init
{
	atomic {
#ifdef UNLOCK
		run Operator();
#endif
#ifdef LOSS
		run Replica();
#endif
		for (i : 1 .. N) {
			run Worker(i);
			run World(i)
		};
		i = 0
	}
}
