/*
 * A record that does not exist yet. The first claim of any revision creates it. A give-back that
 * arrives earlier cannot be remembered, and a record that remembers it may forget it in favour of
 * another one. Its reply therefore says whether it has met its claim, and it is repeated until it
 * has.
 */
bool made;            /* there is a record */

/* What only the assertions look at. */
bool returned[N+1];   /* the worker has the reply that its claim is given back */

#define RECORD made
#define make_record() made = true

/*
 * A token whose claim was given back gets no lease, unless the record has forgotten it over another
 * one.
 */
inline not_returned(t)
{
	assert(!returned[t] || ended != NO_TOKEN && ended != t)                            /* S9 */
}

/*
 * A give-back is over when it has met its claim. It is not over when its token is remembered,
 * because another token may take its place.
 */
inline give_back_claim(t)
{
	skip;
	if
#ifdef RETURNDEAF
	:: true -> reply = RETURNED   /* any reply is taken for the end */
#else
	:: made && token == t -> reply = RETURNED
	:: else -> reply = UNMET
#endif
	fi;
	abandon(t);
	returned[t] = reply == RETURNED;
	assert(!returned[t] || token != t)                                               /* S9 */
}
