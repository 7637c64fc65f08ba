/* Late and repeated steps. A renewal's own are an obtain, and one that changes nothing. */
#ifdef RENEWUNTAKEN
	:: d_step { lock == t && holds[t] && token == t && fence == granted_fence[t] -> expire(t);
		printf("  the lock of %d expires, though the record was renewed\n", t) }
#endif
	:: d_step { asked[t] -> obtain(t) }
	:: d_step { armed[t] -> claim_record(t, true); reply = 0 }
	:: d_step { gaveup[t] -> give_up_record(t); printf("  abandon of the record by %d\n", t) }
	:: d_step { freed[t] -> release(t) }
	:: d_step { one[AT(t, 0)] -> commit_record(t, 0, true); reply = 0 }
	:: d_step { onefin[AT(t, 0)] -> commit_record(t, 0, false); reply = 0 }
#if R > 1
	:: d_step { one[AT(t, 1)] -> commit_record(t, 1, true); reply = 0 }
	:: d_step { onefin[AT(t, 1)] -> commit_record(t, 1, false); reply = 0 }
#endif
#if R > 2
#error the late duplicates of more commits would be missing here
#endif
