/*
 * A record that is not there yet: the first claim of any revision makes it. A give-back that arrives before has nothing to be
 * remembered in, and a record that remembers it may forget it over another one. So its reply says whether it has met its claim, and it
 * is asked again until it has.
 */
bool made;            /* there is a record */

/* What only the assertions look at. */
bool returned[N+1];   /* the worker was told that its claim is given back */

#define RECORD made
#define make_record() made = true

/* A token whose claim was given back gets no lease, unless the record has forgotten it over another one. */
inline not_returned(t)
{
	assert(!returned[t] || ended != NOBODY && ended != t)                            /* S9 */
}

/* The end of a give-back is that it has met its claim. That the token is remembered is none: another one may take its place. */
inline give_back_claim(t)
{
	skip;
	if
#ifdef RETURNDEAF
	:: true -> reply = RETURNED   /* any reply is taken for the end */
#else
	:: made && (FINISHED || token == t) -> reply = RETURNED
	:: else -> reply = UNMET
#endif
	fi;
	abandon(t);
	returned[t] = reply == RETURNED;
	assert(!returned[t] || token != t)                                               /* S9 */
}
