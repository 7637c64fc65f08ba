package mutants

// mutants are defects that others have made, and some that are near at hand.
var mutants = []mutant{
	{
		name: "naive", // every caller gets the lease
		file: "lua/claim.lua",
		old:  "if not mine then\n",
		new:  "if false then\n",
	},
	{
		name: "blind", // a commit is not compared with anything
		file: "lua/commit.lua",
		old:  "if string.sub(control, 1, #mine) ~= mine then\n",
		new:  "if false then\n",
	},
	{
		name: "lockonly", // a commit is accepted because of the lock, and refused because a timer ran out
		file: "lua/commit.lua",
		old:  "if string.sub(control, 1, #mine) ~= mine then\n",
		new:  "if redis.call('GET', KEYS[2]) ~= token then\n",
	},
	{
		name: "nofence", // all leases have the same number
		file: "lua/claim.lua",
		old:  "local grant = at\n",
		new:  "local grant = '1'\n",
	},
	{
		name:   "forgetful", // a delete leaves nothing, so that the next record has the outbound keys of the deleted one
		file:   "lua/delete.lua",
		old:    "redis.call('PEXPIRE', KEYS[1], ARGV[5])\n",
		new:    "redis.call('DEL', KEYS[1])\n",
		killer: "TestVoidedChargeIsNotReplayedAfterADelete",
	},
	{
		name:   "deletestwice", // a delete that comes once more removes the next record
		file:   "lua/delete.lua",
		old:    "if by == nonce then\n",
		new:    "if false then\n",
		killer: "TestRepeatedDeleteLeavesTheNextRecordAlone",
	},
	{
		name: "norenew", // a lease is never renewed
		file: "redisidem/renewal.go",
		old:  "if err := l.renew(ctx); errors.Is(err, ErrLeaseLost) {",
		new:  "if err := ctx.Err(); errors.Is(err, ErrLeaseLost) {",
	},
	{
		name: "slowwatch", // the watchdog bites when others have the key already
		file: "redisidem/renewal.go",
		old:  "return l.scope.service.cfg.Lease / 10 * 9",
		new:  "return l.scope.service.cfg.Lease * 2",
	},
	{
		name: "deaf", // a worker that has lost its lease does not learn it
		file: "redisidem/renewal.go",
		old:  "\tl.cancel(cause)\n",
		new:  "",
	},
	{
		name: "nodupcheck", // a repeated commit is taken for another one's
		file: "lua/commit.lua",
		old:  "if t ~= token or f ~= fence then\n",
		new:  "if true then\n",
	},
	{
		name: "abandon-after-unknown", // the lease is given back although the result may be under way
		file: "redisidem/commit_retry.go",
		old:  "\ts.observe(ctx, unknown)\n",
		new:  "\ts.observe(ctx, unknown)\n\ts.release(ctx, l.id, l.token, protocol.Ending{}, 0)\n",
	},
	{
		name: "attached", // the commit of a caller who has left is not sent
		file: "redisidem/service.go",
		old:  "return context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Timeout)",
		new:  "return context.WithTimeout(ctx, s.cfg.Timeout)",
	},
	{
		name: "immortal", // a record that was created never expires
		file: "lua/create.lua",
		old:  "  redis.call('PEXPIRE', KEYS[1], ARGV[3])\n  return {'CREATED ' .. nonce .. ' ' .. now ..",
		new:  "  return {'CREATED ' .. nonce .. ' ' .. now ..",
	},
	{
		name: "no-reanchor", // a server's clock that was set back prolongs a lease
		file: "lua/claim.lua",
		old:  "if holder and holder == owner and left > tonumber(length) then\n",
		new:  "if false then\n",

		killer: "TestLockThatOutlivesItsLeaseIsReanchored",
	},
	{
		name: "setnx", // a claim that is repeated, since its reply was lost, counts as another one
		file: "lua/claim.lua",
		old:  "if owner == token then\n  touch()\n",
		new:  "if false then\n  touch()\n",
	},
	{
		name: "restless", // finished work is done again
		file: "lua/claim.lua",
		old:  "if point == 'finished' then\n",
		new:  "if false then\n",
	},
	{
		name: "keepshort", // a commit that keeps the lease does not prolong it
		file: "lua/commit.lua",
		old:  "    redis.call('SET', KEYS[2], token, 'PX', ARGV[7])\n",
		new:  "",

		killer: "TestTrapL14KeptCommitProlongsTheLock",
	},
	{
		name: "shortlived", // a record that was claimed long ago is not kept for all of its retention
		file: "lua/commit.lua",
		old:  "if age < 0 or age > ARGV[7] * 1000 then\n",
		new:  "if false then\n",
	},
	{
		name: "lockwise", // a commit takes the lock for a sign that the record was prolonged, too
		file: "lua/commit.lua",
		old:  "if age < 0 or age > ARGV[7] * 1000 then\n",
		new:  "if holder ~= token or not KEYS[2] then\n",

		killer: "TestTrapL14LateDuplicateOfTheLockAloneKeepsTheRetention",
	},
	{
		name: "shorter", // a late duplicate of a claim prolongs the lock and not the record
		file: "lua/claim.lua",
		old:  "  redis.call('PEXPIRE', KEYS[1], ARGV[5], 'GT')\n  local at = redis.call('HGET', KEYS[1], 'locked_at') or ''\n",
		new:  "  local at = redis.call('HGET', KEYS[1], 'locked_at') or ''\n",

		killer: "TestRepeatedClaimProlongsTheRecord",
	},
	{
		name: "hasty", // while a slot is split: who has taken the lock does not look whether the record is as it was before
		file: "lua/claim.lua",
		old:  "  mine = ARGV[9] ~= '' and (owner == token or (control or '-') == ARGV[9])\n",
		new:  "  mine = ARGV[9] ~= ''\n",

		killer: "TestClaimWithoutTheLockComparesTheRecord",
	},
	{
		name: "sure", // a commit whose record is gone is reported as refused, although an earlier try may have stored it
		file: "redisidem/commit.go",
		old:  "\tcase protocol.StatusGone, protocol.StatusForgotten:\n\t\treturn key, false, l.outcomeUnknown(ctx)\n",
		new:  "\tcase protocol.StatusGone:\n\t\treturn key, false, ErrFenced\n\tcase protocol.StatusForgotten:\n\t\treturn key, false, l.outcomeUnknown(ctx)\n",

		killer: "TestTrapL14CommitInARecordThatIsGoneIsUnknown",
	},
	{
		name: "hearsay", // a commit is reported as refused although no replica knows of what refused it
		file: "redisidem/commit.go",
		old:  "\t\tif s.settled(r) != nil {\n",
		new:  "\t\tif false {\n",

		killer: "TestRefusalThatNoReplicaKnowsIsUnknown",
	},
	{
		name: "counted", // a claim that is given back before its callback began counts as an attempt
		file: "redisidem/abandon.go",
		old:  "by.Token, protocol.Ending{NothingDone: true, Unbegun: true}, s.cfg.Lease)",
		new:  "by.Token, protocol.Ending{}, s.cfg.Lease)",

		killer: "TestClaimWithoutAReplyDoesNotCount",
	},
	{
		name: "once", // a give-back without an answer is not repeated
		file: "redisidem/abandon.go",
		old:  "\tif !over(r, err) {\n",
		new:  "\tif false && !over(r, err) {\n",

		killer: "TestClaimWithoutAReplyDoesNotCount",
	},
	{
		name: "overtaken", // a give-back that has not met its claim is over
		file: "redisidem/abandon.go",
		old:  "err == nil && (r.MetClaim() || time.Since(began) >= lookout || s.inFlight.isClosing())",
		new:  "err == nil && (!began.IsZero() || r.MetClaim())",

		killer: "TestAbandonThatOvertakesItsClaimIsRepeated",
	},
	{
		name: "forgotten", // a give-back is over when the record remembers its token, which another one may take the place of
		file: "lua/abandon.lua",
		old:  "if owner == token or r[2] == 'finished' then\n",
		new:  "if owner == token or spent == token or r[2] == 'finished' then\n",

		killer: "TestAbandonThatOvertakesItsClaimIsRepeated",
	},
	{
		name: "lapsed", // a lease that a commit kept, and whose lock has lapsed before its reply came, is not given back
		file: "redisidem/commit_retry.go",
		old:  "} else if kept {",
		new:  "} else if _, held, _ := r.Committed(); kept && held {",

		killer: "TestKeptCommitWithoutAReplyBeginsNoAttempt",
	},
	{
		name: "heedless", // a callback begins although its caller has left
		file: "redisidem/workstage.go",
		old:  "\tcase l.ctx.Err() == nil, l.undoing(l.Key()):\n",
		new:  "\tcase true:\n",

		killer: "TestLeaseOfACallerThatLeftIsAbandoned",
	},
	{
		name: "tireless", // a lease that was called lost is renewed
		file: "redisidem/renewal.go",
		old:  "\tl.lost = cause\n\tl.renewer.stop()\n",
		new:  "\tl.lost = cause\n",

		killer: "TestTrapL13LostLeaseIsNotRenewed",
	},
	{
		name: "nospent", // a claim that comes after its attempt has ended gets the lease
		file: "lua/claim.lua",
		old:  "if spent == token then\n",
		new:  "if false then\n",

		killer: "TestClaimThatComesAfterItsAbandonTakesNothing",
	},
	{
		name: "unlockspent", // whose key was unlocked claims it once more, without knowing
		file: "lua/unlock.lua",
		old:  "  spent = owner\n",
		new:  "",

		killer: "TestClaimThatIsRepeatedAfterAnUnlockIsRefused",
	},
	{
		name: "heldalways", // a repeated commit says that the lease was kept, although its lock is gone
		file: "lua/commit.lua",
		old:  "local held = '0'\n",
		new:  "local held = '1'\n",

		killer: "TestRepeatedKeptCommitReportsThatTheLeaseIsGone",
	},
	{
		name: "nofingerprint", // another request gets the key
		file: "lua/claim.lua",
		old:  "if fingerprint ~= '' and printed ~= fingerprint then\n",
		new:  "if false then\n",

		killer: "TestMismatchAndGoneStrandNoLock",
	},
	{
		name: "lost-letter", // a dead letter that is carried on by hand is in no index any more
		file: "lua/commit.lua",
		old:  "if string.find(ARGV[6], 'h', 1, true) and not letters then\n",
		new:  "if string.find(ARGV[6], 'h', 1, true) then\n",

		killer: "TestKeyStaysInOneIndexWhateverAnOperatorDoes",
	},
	{
		name: "unlisted", // who works on a dead letter prolongs its record, and not its place in the list
		file: "lua/claim.lua",
		old:  "if letter and flow and not KEYS[4] then",
		new:  "if false then",

		killer: "TestDeadLetterIsListedAsLongAsItsRecordLives",
	},
	{
		name: "endless-look", // what is due again at once keeps a sweep from ending
		file: "lua/due.lua",
		old:  "math.min(now, tonumber(ARGV[5]) or now)",
		new:  "now",

		killer: "TestSweepEndsAlthoughItsKeysAreDueAgain",
	},
	{
		name: "leaving", // the client that leaves calls off what is being undone
		file: "redisidem/lease.go",
		old:  "return !l.swept && l.flow != nil && strings.HasPrefix(key.RecoveryPoint, compensating)",
		new:  "return false",

		killer: "TestCompensationContinuesWhenTheClientLeaves",
	},
	{
		name: "silent-end", // a key is ended by hand without a word about its committed stages
		file: "redisidem/outcome.go",
		old:  "case ends && !o.leave &&",
		new:  "case false && !o.leave &&",

		killer: "TestKeyOfAFlowIsEndedByHand",
	},
	{
		name: "again-and-again", // a result that cannot be stored is made again by each retry
		file: "redisidem/commit.go",
		old:  "if worked && isUnstorable(err) {",
		new:  "if false {",

		killer: "TestStageWithAnInvalidOutcomeDoesNotRunAgain",
	},
}
