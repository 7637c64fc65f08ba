/*
 * The protocol with a second store, as package sqlidem has it: one key, N workers, R visits to
 * stages, a SQL database beside Redis. Redis is here what protocol.pml shows that it is: a claim
 * gets a larger fence than all before it, and only the last claim commits. A claim is possible at
 * any time, because a lock may expire at any time.
 *
 * Redis may lose all of its data at any time, and an operator may move the key on. A worker may
 * stop anywhere for good. The database ends the transaction of a worker that is gone, or whose
 * connection is lost, at any time. A COMMIT may arrive late, or never, and its reply may be lost.
 *
 * README.md says what each -D of a broken variant breaks.
 */
#ifndef N
#define N 2
#endif
#ifndef R
#define R 2
#endif
#define NO_WORKER 0

/*
 * The rows of visits have the numbers of these visits. Otherwise they have revisions. Other stages
 * make commits as well, another number of them in each record.
 */
#ifdef BYREVISION
#define ROWS (R+1)
#define ROW(t) row[t]
#define begin_visit(t) visit[t] = rev; row[t] = rev + others
#define other_number others = 1 - others
byte others;          /* the commits of other stages before the visits in SQL */
byte row[N+1];
#else
#define ROWS R
#define ROW(t) visit[t]
#define begin_visit(t) visit[t] = rev
#define other_number skip
#endif

/* What Redis has. */
byte token;           /* of the lease that may commit */
byte rev;             /* visits committed; the record is finished after R of them */
byte claims;          /* the clock behind the fences: it outlives the data */

/* What the database has. */
byte outcome[ROWS];   /* the row of a visit: the worker whose outcome it has */
byte top_fence;       /* the row of the key: the largest fence that was committed */
byte locker;          /* who has locked that row */
bool open[N+1];       /* a transaction that has not ended */

/* What the messages of a worker carry. */
byte fence[N+1];
byte visit[N+1];
bool asked[N+1];      /* COMMIT is under way */
bool applied[N+1];    /* the last transaction was committed */

/* What only the assertions look at. */
byte effects[R];      /* how often the work of a visit was committed */
byte answer[R];       /* whose outcome the callers of a visit have got */

/* The database commits the transaction of t. */
inline apply(t)
{
	skip;
	assert(effects[visit[t]] == 0);                                                  /* Q1 */
	assert(top_fence <= fence[t]);                                                   /* Q3 */
	effects[visit[t]]++;
#ifndef ROWLATE
	outcome[ROW(t)] = t;
#endif
	top_fence = (fence[t] > top_fence -> fence[t] : top_fence);
	applied[t] = true;
	end_transaction(t);
	printf("  the transaction of %d for visit %d is committed\n", t, visit[t])
}

inline end_transaction(t)
{
	open[t] = false;
	asked[t] = false;
	if
	:: locker == t -> locker = NO_WORKER
	:: else
	fi
}

#ifdef NOSQLLOCK
#define FREE true
#define lock_row(t) skip
#else
#define FREE (locker == NO_WORKER)
#define lock_row(t) locker = t
#endif

#ifdef NOLOOKUP
#define DONE(v) false
#else
#define DONE(v) (outcome[v] != NO_WORKER)
#endif

#ifdef NOSQLFENCE
#define OLD(t) false
#else
#define OLD(t) (top_fence > fence[t])
#endif

proctype Worker(byte t)
{
	byte mine;    /* whose outcome it returns */

	d_step {
		rev < R;
		claims++;
		fence[t] = claims;
		token = t;
		begin_visit(t);
		printf("worker %d: claims visit %d with fence %d\n", t, visit[t], fence[t])
	}

beginning:
	/*
	 * It locks the row of the key and looks for that of the visit. A transaction of its own whose
	 * COMMIT has failed may still have the lock: then it waits.
	 */
	atomic {
		FREE && !open[t];
		lock_row(t);
		if
		:: DONE(ROW(t)) ->
#ifdef OWNOUTCOME
			mine = t;
#else
			mine = outcome[ROW(t)];
#endif
			d_step { if :: locker == t -> locker = NO_WORKER :: else fi };
			printf("worker %d: finds the outcome of %d\n", t, mine);
			goto committing
		:: !DONE(ROW(t)) && OLD(t) ->
			d_step { if :: locker == t -> locker = NO_WORKER :: else fi };
			printf("worker %d: is refused by the database\n", t);
			goto stop
		:: !DONE(ROW(t)) && !OLD(t) ->
			open[t] = true;
			applied[t] = false;
			printf("worker %d: runs the work of visit %d\n", t, visit[t])
		fi
	}

	if
	:: d_step { open[t] -> asked[t] = true; printf("worker %d: sends COMMIT\n", t) }
	:: !open[t] -> goto beginning                    /* the connection was lost before it */
	fi;

	if
	:: applied[t] -> mine = t                        /* the reply */
	:: goto settling                                 /* no reply, or an error */
	fi;

#ifdef ROWLATE
	d_step { outcome[ROW(t)] = t; printf("  the row of %d comes after its commit\n", t) };
#endif
	goto committing;

settling:
#ifdef UNSETTLED
	mine = t;                                        /* it takes no reply for a yes */
	goto committing;
#else
	goto beginning;                                  /* it takes the lock, and looks */
#endif

committing:
	if
	:: d_step {
		token == t && rev == visit[t] ->
		assert(effects[rev] == 1);                                               /* Q4 */
		assert(answer[rev] == NO_WORKER || answer[rev] == mine);                 /* Q2 */
		answer[rev] = mine;
		rev++;
		printf("worker %d: visit %d is answered with the outcome of %d\n", t, visit[t], mine)
	   }
	:: token != t || rev != visit[t] -> goto stop    /* refused, or gone */
	fi;
	if
	:: d_step { token == t && rev == visit[t] + 1 && rev < R -> begin_visit(t); applied[t] = false; mine = NO_WORKER };
	   goto beginning                                /* it keeps the lease */
	:: goto stop
	fi;

stop:	skip
}

/* What the network, the database and others do, at any time. */
proctype World(byte t)
{
end:	do
	:: d_step { asked[t] && open[t] -> apply(t) }
	:: d_step { open[t] -> end_transaction(t); printf("  the transaction of %d is rolled back\n", t) }
	od
}

proctype Redis()
{
end:	do
	:: d_step { rev > 0 || token != NO_WORKER -> rev = 0; token = NO_WORKER; other_number; printf("  Redis loses its data\n") }
	:: d_step { rev < R -> rev++; token = NO_WORKER; printf("  an operator moves the key on\n") }
	od
}

init
{
	byte i;
	atomic {
		run Redis();
		for (i : 1 .. N) {
			run Worker(i);
			run World(i)
		};
		i = 0
	}
}
