/* A worker's claim in steps: it looks, takes the lock, and claims if nothing has changed. */
	goto abandoning;
looking:
	if
#ifdef CLAIMUNTAKEN
	:: d_step { taken = true; armed[t] = armed[t] || looked[t]; looked[t] = false }
#elif defined(LOOKLATE)
	:: d_step { obtain(t); taken = (lock == t); looked[t] = false };
	   d_step { armed[t] = armed[t] || taken; printf("  control is read by %d\n", t) }
#else
	:: d_step {
		obtain(t);
		taken = (lock == t);
		armed[t] = armed[t] || (taken && looked[t]);
		looked[t] = false
	   }
#endif
	:: d_step { looked[t] = false } goto claiming     /* no reply */
	:: d_step { looked[t] = false } goto abandoning
	fi;
claiming_record:
	if
	:: atomic {
		d_step {
			claim_record(t, taken);
			taken = false;
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
		:: reply == BUSY -> reply = 0; goto claiming
		:: else -> reply = 0; freed[t] = true; goto stop
		fi
	   }
#ifdef SAMETOKEN
	:: d_step { taken && !freed[t] -> taken = false; freed[t] = true; /* another fingerprint is tried next */
		printf("  claim of the record by %d: MISMATCH\n", t) } goto claiming
#endif
	:: d_step { taken = false } goto claiming         /* no reply */
	:: d_step { taken = false } goto abandoning
	fi;
