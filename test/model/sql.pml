/*
 * The protocol with a second store, as package sqlidem has it: one key, N workers, R visits to
 * stages, a SQL database beside Redis. Redis is here what protocol.pml shows that it is: a claim
 * gets a larger fence than all before it, and only the last claim commits. A claim is possible at
 * any time, because a lock may expire at any time.
 *
 * A flow may fail, and then undoes its visits, the last one first. Its key begins again after that.
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
#define begin_visit(t, v) visit[t] = v; row[t] = v + others
#define other_number others = 1 - others
byte others;          /* the commits of other stages before the visits in SQL */
byte row[N+1];
#else
#define ROWS R
#define ROW(t) visit[t]
#define begin_visit(t, v) visit[t] = v
#define other_number skip
#endif

/* What Redis has. */
byte token;           /* of the lease that may commit */
byte rev;             /* visits committed; the record is finished after R of them */
bool failing;         /* the flow has failed: rev counts down, and the record is finished at 0 */
byte claims;          /* the clock behind the fences: it outlives the data */

/* What the database has. */
byte outcome[ROWS];   /* the row of a visit that was not undone: the worker whose outcome it has */
bool foreign[R];      /* the row of a visit has the mark of a lost record */
bool undone[R];       /* the row of an undo that this record has made */
byte top_fence;       /* the row of the key: the largest fence that was committed */
byte locker;          /* who has locked that row */
bool open[N+1];       /* a transaction that has not ended */

/* What the messages of a worker carry. */
byte fence[N+1];
byte visit[N+1];
bool undoes[N+1];     /* the worker undoes the visit */
bool late[N+1];       /* Redis has lost the record since the claim */
bool asked[N+1];      /* COMMIT is under way */
bool applied[N+1];    /* the last transaction was committed */

/* What only the assertions look at. */
byte effects[R];      /* how often the work of a visit was committed and not undone */
byte answer[R];       /* whose outcome the callers of a visit have got since it was made */

/* The database commits the transaction of t. */
inline apply(t)
{
	skip;
	assert(top_fence <= fence[t]);                                                   /* Q3 */
	if
	:: undoes[t] && (outcome[ROW(t)] != NO_WORKER || undone[visit[t]]) ->
		assert(effects[visit[t]] == 1);                                          /* Q5 */
		effects[visit[t]]--;
		answer[visit[t]] = NO_WORKER;
		undone[visit[t]] = true;
#ifndef UNDOLEAVES
		outcome[ROW(t)] = NO_WORKER
#endif
	:: undoes[t] && outcome[ROW(t)] == NO_WORKER && !undone[visit[t]]    /* an operator has moved the key past the visit */
	:: !undoes[t] ->
		assert(effects[visit[t]] == 0);                                          /* Q1 */
		effects[visit[t]]++;
		foreign[visit[t]] = late[t];
#ifndef ROWLATE
		outcome[ROW(t)] = t
#endif
	fi;
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
#define DONE(t) (undoes[t] && undone[visit[t]])
#elif defined(UNDOBLIND)
#define DONE(t) (!undoes[t] && outcome[ROW(t)] != NO_WORKER)
#else
#define DONE(t) (undoes[t] -> undone[visit[t]] : outcome[ROW(t)] != NO_WORKER)
#endif

/*
 * A row with the mark of another record gets that of the worker's. The fence is committed with it,
 * so that a worker of a lost record does not undo the visit afterwards. Two lost records may be the
 * same one.
 */
#ifdef NOMARK
#define SAME_RECORD(t) true
#define OTHER_RECORD(t) false
#else
#define SAME_RECORD(t) (undoes[t] || foreign[visit[t]] == late[t])
#define OTHER_RECORD(t) (!undoes[t] && (foreign[visit[t]] || late[t]))
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
		rev < R && !failing || rev > 0 && failing;
		claims++;
		fence[t] = claims;
		token = t;
		undoes[t] = failing;
		begin_visit(t, (failing -> rev - 1 : rev));
		printf("worker %d: claims visit %d with fence %d, undo %d\n", t, visit[t], fence[t], undoes[t])
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
		:: DONE(t) && (SAME_RECORD(t) || OTHER_RECORD(t) && !OLD(t)) ->
			if
			:: SAME_RECORD(t)
			:: OTHER_RECORD(t) && !OLD(t) -> d_step { top_fence = fence[t]; foreign[visit[t]] = late[t] }
			fi;
#ifdef OWNOUTCOME
			mine = t;
#else
			mine = outcome[ROW(t)];
#endif
			d_step { if :: locker == t -> locker = NO_WORKER :: else fi };
			printf("worker %d: finds the outcome of %d\n", t, mine);
			goto committing
		:: (!DONE(t) || OTHER_RECORD(t)) && OLD(t) ->
			d_step { if :: locker == t -> locker = NO_WORKER :: else fi };
			printf("worker %d: is refused by the database\n", t);
			goto stop
		:: !DONE(t) && !OLD(t) ->
			open[t] = true;
			applied[t] = false;
			printf("worker %d: runs the work or the undo of visit %d\n", t, visit[t])
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
	d_step { if :: !undoes[t] -> outcome[ROW(t)] = t :: else fi; printf("  the row of %d comes after its commit\n", t) };
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
		token == t && !undoes[t] && !failing && rev == visit[t] ->
		assert(effects[rev] == 1);                                               /* Q4 */
		assert(answer[rev] == NO_WORKER || answer[rev] == mine);                 /* Q2 */
		answer[rev] = mine;
		rev++;
		printf("worker %d: visit %d is answered with the outcome of %d\n", t, visit[t], mine)
	   }
	:: d_step {
		token == t && undoes[t] && failing && rev == visit[t] + 1 ->
		assert(effects[visit[t]] == 0);                                          /* Q5 */
		rev--;
		printf("worker %d: visit %d is undone\n", t, visit[t])
	   }
	:: token != t || failing != undoes[t] || rev != visit[t] + undoes[t] -> goto stop    /* refused, or gone */
	fi;
	if
	:: d_step { token == t && !failing && !undoes[t] && rev == visit[t] + 1 && rev < R -> begin_visit(t, rev); applied[t] = false; mine = NO_WORKER };
	   goto beginning                                /* it keeps the lease */
	:: d_step { token == t && failing && undoes[t] && rev == visit[t] && rev > 0 -> begin_visit(t, rev - 1); applied[t] = false; mine = NO_WORKER };
	   goto beginning
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

/*
 * The marks of rows are those of a lost record from now on. Rows of its undos do not answer the
 * next record.
 */
inline lose_record()
{
	rev = 0;
	failing = false;
	token = NO_WORKER;
	for (v : 0 .. R-1) {
		foreign[v] = outcome[v] != NO_WORKER;
		undone[v] = false
	};
	for (v : 1 .. N) {
		late[v] = fence[v] > 0
	};
	v = 0
}

proctype Redis()
{
	byte v;
end:	do
	:: d_step { rev > 0 || token != NO_WORKER || failing -> lose_record(); other_number; printf("  Redis loses its data\n") }
	:: d_step { rev < R && !failing -> rev++; token = NO_WORKER; printf("  an operator moves the key on\n") }
	:: d_step { rev > 0 && !failing -> failing = true; token = NO_WORKER; printf("  the flow fails\n") }
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
