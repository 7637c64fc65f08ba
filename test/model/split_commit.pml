#ifdef KEEPUNTAKEN
#define start_kept(t) run_callback(t)
#else
#define start_kept(t) start(t)
#endif
/*
 * A worker's commit in steps: to keep the lease it takes the lock again; the record is changed; a
 * lease that ends gives the lock back.
 */
committing_record:
	if
	:: atomic {
		d_step {
			commit_record(t, v, taken);
			check_outcome(t)
		};
		if
		:: reply == HELD && taken -> d_step { reply = 0; taken = false; v++; start_kept(t) } goto working
		:: else -> d_step { reply = 0; taken = false; freed[t] = true } goto stop
		fi
	   }
	:: d_step { taken = false } goto committing       /* no reply */
	fi;
