package mutants

// mutants are defects that developers have made, and defects that are likely.
var mutants = []mutant{
	{
		name: "naive", // every caller gets the lease
		file: "lua/claim.lua",
		old:  "if not mine then\n  local left",
		new:  "if false then\n  local left",
	},
	{
		name: "blind", // a commit is accepted without a check
		file: "lua/commit.lua",
		old:  "if not control or string.find(control, mine, 1, true) ~= 1 then\n",
		new:  "if not control then\n",
	},
	{
		name: "lockonly", // a commit is accepted because of the lock, and refused because a timer has expired
		file: "lua/commit.lua",
		old:  "if not control or string.find(control, mine, 1, true) ~= 1 then\n",
		new:  "if not control or redis.call('GET', KEYS[2]) ~= token then\n",
	},
	{
		name: "nofence", // all leases have the same fence
		file: "lua/claim.lua",
		old:  "    fence = at\n",
		new:  "    fence = '1'\n",
	},
	{
		name:   "forgetful", // a delete leaves no tombstone, so the next record has the outbound keys of the deleted one
		file:   "lua/delete.lua",
		old:    "redis.call('PEXPIRE', KEYS[1], ARGV[5])\n",
		new:    "redis.call('DEL', KEYS[1])\n",
		killer: "TestVoidedChargeIsNotReplayedAfterADelete",
	},
	{
		name:   "deletestwice", // a repeated delete removes the next record
		file:   "lua/delete.lua",
		old:    "if by == nonce then\n",
		new:    "if false then\n",
		killer: "TestRepeatedDeleteLeavesTheNextRecordAlone",
	},
	{
		name: "unpaused", // a completer runs the keys of a paused flow
		file: "redisidem/completerpause.go",
		old:  " && !c.paused.has(name, f.id) {\n",
		new:  " {\n",
	},
	{
		name:   "unfair", // a completer works on all keys of a scope before it comes to the next one
		file:   "redisidem/fairqueue.go",
		old:    "				q.turns = append(q.turns, s)\n			}\n			s.working++",
		new:    "				q.turns = slices.Insert(q.turns, 0, s)\n			}\n			s.working++",
		killer: "TestScopesTakeTurns",
	},
	{
		name:   "backlogfirst", // keys that become due wait until a scan has handed out all others
		file:   "redisidem/completerscan.go",
		old:    "	if most > 0 {\n",
		new:    "	if false {\n",
		killer: "TestNewKeysDoNotWaitForABacklog",
	},
	{
		name:   "undurablestage", // a stage that too few replicas have counts an attempt at the next one
		file:   "redisidem/conclude.go",
		old:    "if held && key.Revision != st.key.Revision {",
		new:    "if false {",
		killer: "TestKeptCommitThatTooFewReplicasHaveCountsNoFurtherStage",
	},
	{
		name:   "undurableretry", // the same when its commit is repeated in the background
		file:   "redisidem/commitretry.go",
		old:    "stored := err == nil || errors.Is(err, ErrNotDurable) || errors.Is(err, ErrNotKept)",
		new:    "stored := err == nil",
		killer: "TestKeptCommitThatIsRepeatedWithTooFewReplicasCountsNoFurtherStage",
	},
	{
		name:   "handdrops", // an update drops a commit that is undone later
		file:   "lua/update.lua",
		old:    " or revision - (tonumber(r[7]) or 0) < kept",
		new:    "",
		killer: "TestUpdateAfterManySnoozesKeepsTheJournal",
	},
	{
		name:   "laststate", // a compensation gets the state that later stages have left
		file:   "redisidem/stage.go",
		old:    "st.key.stateAfter(st.lease.scope.service.valueCodec, st.undoes.Revision)",
		new:    "st.key.stateAfter(st.lease.scope.service.valueCodec, st.key.Revision)",
		killer: "TestCompensationGetsTheStateOfItsStage",
	},
	{
		name:   "onestate", // a commit does not keep the state that it changes if there is an earlier one
		file:   "redisidem/earlierstate.go",
		old:    "k.Journal[i].Revision >= kept",
		new:    "kept < 0",
		killer: "TestCompensationGetsTheStateOfItsStage",
	},
	{
		name:   "hoarder", // a record keeps any number of earlier states
		file:   "redisidem/earlierstate.go",
		old:    "err == nil && n > v.limit",
		new:    "err == nil && n < 0",
		killer: "TestEarlierStatesAreBounded",
	},
	{
		name:   "hasty", // the last stage begins although the work of the one before may be done
		file:   "redisidem/flowfail.go",
		old:    "	if began && stage.Reconcile != nil {",
		new:    "	if began && stage.Reconcile != nil && f.cfg.Exhausted.Stage == \"\" {",
		killer: "TestExhaustedLastStageAsksReconcileBefore",
	},
	{
		name:   "forgetsrow", // a key is finished without an outcome that the program has stored
		file:   "redisidem/commit.go",
		old:    " && !o.elsewhere",
		new:    "",
		killer: "TestRefusedStoredOutcomeIsCommittedByALaterRun",
	},
	{
		name:   "allversions", // a pause of the newest version refuses the keys of all versions
		file:   "redisidem/pause.go",
		old:    "f != nil && f != c.flow &&",
		new:    "false &&",
		killer: "TestPausedVersionAdoptsNothing",
	},
	{
		name:   "unlimited", // completers work on more keys of a flow than they may
		file:   "lua/completerlimit.lua",
		old:    "if perFlow > 0 and ofFlow >= perFlow then\n",
		new:    "if false then\n",
		killer: "TestLimitsHoldInAllProcesses",
	},
	{
		name:   "crowded", // completers work on more keys of a scope than they may
		file:   "lua/completerlimit.lua",
		old:    "elseif perScope > 0 and ofScope >= perScope then",
		new:    "elseif false then",
		killer: "TestLimitsHoldInAllProcesses",
	},
	{
		name: "occupied", // a hung stage keeps its place from other keys
		file: "redisidem/fairqueue.go",
		old:  "	case !j.done && !j.hung:\n",
		new:  "	case false:\n",
	},
	{
		name: "hushed", // a stage that ignores its Timeout is not reported
		file: "redisidem/hung.go",
		old:  "time.AfterFunc(timeout+l.scope",
		new:  "time.AfterFunc(1000*timeout+l.scope",
	},
	{
		name: "regretful", // commits before the point of no return are compensated
		file: "redisidem/compensate.go",
		old:  "stage.passed(pointAfter(key, i)):\n			return next, nil\n",
		new:  "stage.passed(pointAfter(key, i)):\n",
	},
	{
		name: "unapologetic", // keys without attempts left do not come to the last stage
		file: "redisidem/flowfail.go",
		old:  ", e.Stage != \"\" && e.Stage != key.RecoveryPoint:",
		new:  ":",
	},
	{
		name:   "lettersstaylost", // a reindex does not find the dead letters
		file:   "lua/reindex.lua",
		old:    "local index = (r[3] and ':dead:' or ':due:')",
		new:    "local index = (':due:')",
		killer: "TestReindexFindsKeysThatNoIndexHas",
	},
	{
		name:   "pausesexpire", // the turns of completers end the pauses
		file:   "lua/turn.lua",
		old:    "  if not pauses then\n",
		new:    "  if true then\n",
		killer: "TestPausesOutliveTurns",
	},
	{
		name:   "pausedexpire", // keys that wait for a resume expire
		file:   "redisidem/completerpause.go",
		old:    "		if !paused || ctx.Err() != nil ||",
		new:    "		if paused || ctx.Err() != nil ||",
		killer: "TestCompletersLeaveAPausedFlowAlone",
	},
	{
		name:   "pausecounts", // keys become dead letters because their flow was paused
		file:   "redisidem/completerpause.go",
		old:    "	return l.deadLetterReason(resumed), nil\n",
		new:    "	return why, nil\n",
		killer: "TestCompleterThatStartsAfterAResumeDoesNotCountThePause",
	},
	{
		name: "norenew", // a lease is never renewed
		file: "redisidem/renewal.go",
		old:  "if err := l.renew(ctx); errors.Is(err, ErrLeaseLost) {",
		new:  "if err := ctx.Err(); errors.Is(err, ErrLeaseLost) {",
	},
	{
		name: "slowwatch", // the watchdog fires when other workers already have the key
		file: "redisidem/leaseloss.go",
		old:  "return l.scope.service.cfg.Lease / 10 * 9",
		new:  "return l.scope.service.cfg.Lease * 2",
	},
	{
		name: "deaf", // a worker that has lost its lease is not informed
		file: "redisidem/leaseloss.go",
		old:  "\tl.cancel(cause)\n",
		new:  "",
	},
	{
		name: "nodupcheck", // a repeated commit is taken for the commit of another worker
		file: "lua/commit.lua",
		old:  "if t ~= token or f ~= fence then\n",
		new:  "if true then\n",
	},
	{
		name: "abandon-after-unknown", // the lease is given back although the result may be in flight
		file: "redisidem/commitretry.go",
		old:  "\ts.observe(ctx, unknown)\n",
		new:  "\ts.observe(ctx, unknown)\n\ts.abandonInBackground(ctx, l.id, l.token, protocol.Ending{}, 0)\n",
	},
	{
		name: "attached", // the commit of a caller that has left is not sent
		file: "redisidem/service.go",
		old:  "\t\tctx = context.WithoutCancel(ctx)\n",
		new:  "\t\treturn s.bounded(ctx)\n",
	},
	{
		name: "endless", // an operation that is never cancelled has no timeout
		file: "redisidem/sharedtimeout.go",
		old:  "\ttime.AfterFunc(s.after, func() { close(t.passed) })\n",
		new:  "",

		killer: "TestOperationEndsWithinItsTimeout",
	},
	{
		name: "unlooked", // the renewals of a lease do not begin
		file: "redisidem/renewal.go",
		old:  "\t\tlease.beginRenewer(pause)\n",
		new:  "\t\t_ = lease\n",

		killer: "TestLeaseIsRenewedAtAThird",
	},
	{
		name: "lookedlate", // a claim that was answered late is not renewed before the next look
		file: "redisidem/close.go",
		old:  "\tlease.beginRenewer(pause) // a claim",
		new:  "\t// a claim",

		killer: "TestClaimThatIsAnsweredLateIsRenewedAtOnce",
	},
	{
		name: "outholds", // the time of a renewal adds to MaxHold
		file: "redisidem/renewal.go",
		old:  "\t\tctx = bounded\n",
		new:  "\t\t_ = bounded\n",

		killer: "TestMaxHoldEndsALeaseWhoseServerIsSilent",
	},
	{
		name: "immortal", // the record of a new key never expires
		file: "lua/create.lua",
		old:  "  redis.call('PEXPIRE', KEYS[1], ARGV[3])\n  return 'CREATED ' .. nonce .. ' ' .. now ..",
		new:  "  return 'CREATED ' .. nonce .. ' ' .. now ..",
	},
	{
		name: "no-reanchor", // a server's clock that was set back extends a lease
		file: "lua/claim.lua",
		old:  "if holder and holder == owner and left > tonumber(length) then\n",
		new:  "if false then\n",

		killer: "TestLockThatOutlivesItsLeaseIsReanchored",
	},
	{
		name: "rested", // a give-back ends at a finished key, which may be deleted before the claim arrives
		file: "lua/abandon.lua",
		old:  "if owner == token then\n  met = '1'\n",
		new:  "if owner == token or r[2] == 'finished' then\n  met = '1'\n",

		killer: "TestLateClaimOnADeletedKeyIsGivenBack",
	},
	{
		name: "grabs", // a claim takes the lock of another worker
		file: "lua/claim.lua",
		old:  "token, 'NX', 'PX', ARGV[3])",
		new:  "token, 'PX', ARGV[3])",
	},
	{
		name: "outdated", // a server that is no longer the master refuses a claim
		file: "lua/claim.lua",
		old:  "    redis.call('HDEL', KEYS[1], '')\n    return reply\n",
		new:  "    return reply\n",

		killer: "TestFormerMasterRefusesNoClaim",
	},
	{
		name: "overcommitted", // a process gets places of a quota that others hold
		file: "lua/quota.lua",
		old:  "local most = limits[i] - used - held[i]\n",
		new:  "local most = limits[i] - used\n",

		killer: "TestQuotaHoldsRequestsInFlightToTheLimit",
	},
	{
		name: "amnesiac", // the places of a process that was killed are not counted as records
		file: "lua/quota.lua",
		old:  "      count(math.min(word[2], now), word[8]) -- each",
		new:  "      -- each",

		killer: "TestQuotaOfAKilledProcess",
	},
	{
		name: "anyones", // the answer of a single commit is sent to a caller with another request
		file: "lua/claim.lua",
		old:  " and control and printed == fingerprint and string.sub",
		new:  " and control and string.sub",

		killer: "TestSeedM3KeyStandsForOneRequest",
	},
	{
		name: "outdated-answer", // a server that is no longer the master answers with a finished key
		file: "lua/claim.lua",
		old:  "    redis.call('HDEL', KEYS[1], '') -- a server that is no longer a master refuses it\n",
		new:  "",

		killer: "TestFormerMasterRefusesNoClaim",
	},
	{
		name: "setnx", // a claim that is repeated after its reply was lost counts as another one
		file: "lua/claim.lua",
		old:  "if owner == token then\n  touch()\n",
		new:  "if false then\n  touch()\n",
	},
	{
		name: "restless", // finished work runs again
		file: "lua/claim.lua",
		old:  "if point == 'finished' then\n",
		new:  "if false then\n",
	},
	{
		name: "keepshort", // a commit that keeps the lease does not extend it
		file: "lua/commit.lua",
		old:  "    redis.call('SET', KEYS[2], token, 'PX', lease)\n",
		new:  "",

		killer: "TestTrapL14KeptCommitProlongsTheLock",
	},
	{
		name: "lockdel", // a late commit deletes the lock of another program
		file: "lua/commit.lua",
		old:  "  if not keep and holder == token then\n",
		new:  "  if not keep then\n",

		killer: "TestLateCommitLeavesTheLockToItsOwner",
	},
	{
		name: "shortlived", // a record that was claimed long ago is not kept for its full retention
		file: "lua/commit.lua",
		old:  "  if age < 0 or age > lease * 1000 then\n",
		new:  "  if false then\n",
	},
	{
		name: "lockwise", // a commit assumes from the lock that the record was extended, too
		file: "lua/commit.lua",
		old:  "  if age < 0 or age > lease * 1000 then\n",
		new:  "  if holder ~= token or not KEYS[2] then\n",

		killer: "TestTrapL14LateDuplicateOfTheLockAloneKeepsTheRetention",
	},
	{
		name: "shorter", // a late duplicate of a claim extends the lock but not the record
		file: "lua/claim.lua",
		old:  "  redis.call('PEXPIRE', KEYS[1], ARGV[4], 'GT')\n  if letter and enter then\n",
		new:  "  if letter and enter then\n",

		killer: "TestRepeatedClaimProlongsTheRecord",
	},
	{
		name: "hasty", // during a slot migration, a worker that has taken the lock does not check whether the record has changed
		file: "lua/claim.lua",
		old:  "  mine = ARGV[14] ~= '' and (owner == token or (control or '-') == ARGV[14])\n",
		new:  "  mine = ARGV[14] ~= ''\n",

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
		name: "hearsay", // a commit is reported as refused although no replica has the write that refused it
		file: "redisidem/commit.go",
		old:  "\t\tif s.checkAcks(r) != nil {\n",
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
		name: "once", // a give-back without a reply is not repeated
		file: "redisidem/abandon.go",
		old:  "\tif !done(r, err) {\n",
		new:  "\tif false && !done(r, err) {\n",

		killer: "TestClaimWithoutAReplyDoesNotCount",
	},
	{
		name: "overtaken", // a give-back ends although it has not met its claim
		file: "redisidem/abandon.go",
		old:  "err == nil && (r.MetClaim() || time.Since(began) >= lookout || s.inFlight.isClosing())",
		new:  "err == nil && (!began.IsZero() || r.MetClaim())",

		killer: "TestAbandonThatOvertakesItsClaimIsRepeated",
	},
	{
		name: "forgotten", // a give-back ends when the record remembers its token, although another token may replace it there
		file: "lua/abandon.lua",
		old:  "if owner == token then\n  met = '1'\n",
		new:  "if owner == token or spent == token then\n  met = '1'\n",

		killer: "TestAbandonThatOvertakesItsClaimIsRepeated",
	},
	{
		name: "lapsed", // a lease that a commit kept is not given back if its lock lapses before the reply arrives
		file: "redisidem/commitretry.go",
		old:  "case kept: // even if",
		new:  "case func() bool { _, held, _ := r.Committed(); return kept && held }(): // even if",

		killer: "TestKeptCommitWithoutAReplyBeginsNoAttempt",
	},
	{
		name: "heedless", // a callback begins although its caller has left
		file: "redisidem/runstage.go",
		old:  "\tcase l.ctx.Err() == nil, l.undoing(l.Key()):\n",
		new:  "\tcase true:\n",

		killer: "TestLeaseOfACallerThatLeftIsAbandoned",
	},
	{
		name: "tireless", // a lease that was reported as lost is renewed
		file: "redisidem/leaseloss.go",
		old:  "\tl.lost = cause\n\tl.renewer.stop()\n",
		new:  "\tl.lost = cause\n",

		killer: "TestTrapL13LostLeaseIsNotRenewed",
	},
	{
		name: "nospent", // a claim that arrives after its attempt has ended gets the lease
		file: "lua/claim.lua",
		old:  "if spent == token then\n",
		new:  "if false then\n",

		killer: "TestClaimThatComesAfterItsAbandonTakesNothing",
	},
	{
		name: "unlockspent", // a worker whose key was unlocked claims it again by accident
		file: "lua/unlock.lua",
		old:  "  spent = owner\n",
		new:  "",

		killer: "TestClaimThatIsRepeatedAfterAnUnlockIsRefused",
	},
	{
		name: "unlockother", // an operator takes the lease of a worker that came after the one that was seen
		file: "lua/unlock.lua",
		old:  "if ARGV[2] ~= '' and fence ~= ARGV[2] then\n",
		new:  "if false then\n",

		killer: "TestActsAreRefusedIfTheKeyIsNotAsItWasRead",
	},
	{
		name: "heldalways", // a repeated commit reports that the lease was kept, although its lock is gone
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
		name: "lost-letter", // a dead letter that was advanced by hand is missing from every index
		file: "lua/commit.lua",
		old:  "if byHand and not letters then\n",
		new:  "if byHand then\n",

		killer: "TestKeyStaysInOneIndexWhateverAnOperatorDoes",
	},
	{
		name: "unlisted", // work on a dead letter extends its record but not its place in the list
		file: "lua/claim.lua",
		old:  "if letter and flow and not KEYS[4] then",
		new:  "if false then",

		killer: "TestDeadLetterIsListedAsLongAsItsRecordLives",
	},
	{
		name: "endless-look", // a key that is due again at once keeps a sweep from ending
		file: "lua/due.lua",
		old:  "math.min(now, tonumber(ARGV[5]) or now)",
		new:  "now",

		killer: "TestSweepEndsAlthoughItsKeysAreDueAgain",
	},
	{
		name: "sound-sleep", // a flow rests until its first key is due, whatever was added since
		file: "lua/turn.lua",
		old:  "local rests = math.min(scanned + ARGV[2 * i + 2], tonumber(first) or math.huge)",
		new:  "local rests = tonumber(first) or scanned + 60000",

		killer: "TestRestingFlowIsScannedWhenAKeyIsDue",
	},
	{
		name: "blind-rest", // a flow rests after a scan that failed
		file: "redisidem/completer.go",
		old:  "ok && err == nil && ctx.Err() == nil {",
		new:  "ok && ctx.Err() == nil {",

		killer: "TestFlowDoesNotRestAfterAFailedScan",
	},
	{
		name: "unwoken", // a requeued key waits for the end of a rest
		file: "redisidem/deadletter.go",
		old:  "\t\ts.wakeCompleters(context.WithoutCancel(ctx), flow)\n",
		new:  "",

		killer: "TestRestingFlowIsScannedWhenAKeyIsDue",
	},
	{
		name: "sleepless", // a call that comes too early runs a snoozed stage
		file: "lua/claim.lua",
		old:  "local snoozed = owner == '~' and points ~= ''",
		new:  "local snoozed = false",

		killer: "TestSnoozedStageRunsAgainAtItsTime",
	},
	{
		name: "diary", // each snooze has an entry of its own in the journal, which cannot be undone when it is full
		file: "lua/commit.lua",
		old:  "if merged then\n",
		new:  "if false then\n",

		killer: "TestManySnoozesCanBeUndone",
	},
	{
		name: "overdue", // no completer looks at a key by its deadline
		file: "lua/renew.lua",
		old:  "    if ARGV[6] then\n",
		new:  "    if false then\n",

		killer: "TestDeadlineIsLookedAtAfterACrash",
	},
	{
		name: "pressed", // a stage does not learn that the deadline has passed
		file: "redisidem/flowfail.go",
		old:  "	if left := l.deadlineIn(key); left > 0 {\n		return",
		new:  "	if left := l.deadlineIn(key); left > 1<<62 {\n		return",

		killer: "TestDeadlineEndsARunningStage",
	},
	{
		name: "outnumbered", // attempts of clients keep a completer from failing a flow
		file: "redisidem/flowfail.go",
		old:  "		if l.lapsed {\n",
		new:  "		if true {\n",

		killer: "TestClientsThatRetryOftenDoNotEndAFlow",
	},
	{
		name: "relentless", // completers fail a flow for ever that cannot be undone
		file: "redisidem/flowfail.go",
		old:  " || errors.Is(err, ErrUnknownRecoveryPoint) {",
		new:  " {",

		killer: "TestFlowThatCannotBeUndoneBecomesADeadLetter",
	},
	{
		name: "greedy", // a canceled worker whose commit is refused keeps the lock
		file: "redisidem/commit.go",
		old:  "if key.Flow != \"\" { // a cancel",
		new:  "if false { // a cancel",

		killer: "TestCanceledWorkerGivesItsLockBack",
	},
	{
		name: "polite", // a cancel leaves the lease to its worker
		file: "lua/cancel.lua",
		old:  "' - ' .. string.format('%.0f', fence + 1)",
		new:  "' ' .. owner .. ' ' .. fence",

		killer: "TestCancelEndsARunningStage",
	},
	{
		name: "impatient", // a cancel lets compensations begin beside the stage that is running
		file: "lua/cancel.lua",
		old:  "local time = redis.call('TIME')\n",
		new:  "local time = redis.call('TIME')\nredis.call('DEL', KEYS[2])\n",

		killer: "TestCancelEndsARunningStage",
	},
	{
		name: "obliging", // a key behind the point of no return can be canceled
		file: "lua/cancel.lua",
		old:  "local late = r[5] or ",
		new:  "local late = ",

		killer: "TestCancelComesTooLate",
	},
	{
		name: "adoptcommits", // an adoption counts as a commit of its stage, and is compensated
		file: "redisidem/adopt.go",
		old:  "return adopting + point",
		new:  "return point",

		killer: "TestAdoptionIsNoCommitOfItsStage",
	},
	{
		name: "adoptbegun", // a key is adopted although an attempt at its stage has begun
		file: "redisidem/adopt.go",
		old:  "	if st.attempt > 1 {\n",
		new:  "	if false {\n",

		killer: "TestAttemptIsReconciledBeforeAnAdoption",
	},
	{
		name: "adoptlossy", // a key is adopted by a version that cannot undo its commits
		file: "redisidem/adopt.go",
		old:  "s.flow.undoes(e.Stage) && !s.next.undoes(e.Stage)",
		new:  "s.flow.undoes(e.Stage) && false",

		killer: "TestKeysThatCannotBeAdoptedEndInTheirVersion",
	},
	{
		name: "adoptpassed", // the new version's point of no return counts for commits of the earlier one
		file: "redisidem/compensate.go",
		old:  "case stage.NoReturn && !adopted &&",
		new:  "case stage.NoReturn &&",

		killer: "TestAdoptedKeyIsUndoneByItsNewVersion",
	},
	{
		name: "leaving", // a client that leaves cancels a compensation
		file: "redisidem/leasecontext.go",
		old:  "return !l.byCompleter && l.flow != nil && strings.HasPrefix(key.RecoveryPoint, compensating)",
		new:  "return false && strings.HasPrefix(key.RecoveryPoint, compensating)",

		killer: "TestCompensationContinuesWhenTheClientLeaves",
	},
	{
		name: "silent-end", // a key is finished by hand without a decision about its committed stages
		file: "redisidem/outcome.go",
		old:  "case ends && !o.leave &&",
		new:  "case false && !o.leave &&",

		killer: "TestKeyOfAFlowIsEndedByHand",
	},
	{
		name: "again-and-again", // each retry repeats the work of a result that cannot be stored
		file: "redisidem/commit.go",
		old:  "if worked && isUnstorable(err) {",
		new:  "if false {",

		killer: "TestStageWithAnInvalidOutcomeDoesNotRunAgain",
	},
	{
		name: "sqlunseen", // a stage does not look for the row of an earlier run
		file: "contrib/sqlidem/stage.go",
		old:  "if found && err == nil {",
		new:  "if false && found && err == nil {",

		killer: "TestStageRunsOnceAlthoughRedisLosesItsData",
	},
	{
		name: "sqlrecord", // rows of a lost record are taken for rows of this one
		file: "contrib/sqlidem/ordinal.go",
		old:  "if r.recordCreatedAt != now.recordCreatedAt || ",
		new:  "if ",

		killer: "TestVisitsBeyondTheJournalAreFound",
	},
	{
		name: "sqljournal", // rows of commits that a failover has lost are taken for passed
		file: "contrib/sqlidem/ordinal.go",
		old:  "r.revision >= now.revision || known && at != point {",
		new:  "r.revision >= now.revision || !known && at != point {",

		killer: "TestVisitIsFoundAfterAFailoverThatLostCommits",
	},
	{
		name: "sqlundone", // an undo leaves the row of its visit, which answers the next record
		file: "contrib/sqlidem/ordinal.go",
		old:  "return r.undone })",
		new:  "return false })",

		killer: "TestUndoneVisitRunsAgainForTheNextRecord",
	},
	{
		name: "sqlredone", // an undo whose outcome Redis has not stored runs again
		file: "contrib/sqlidem/ordinal.go",
		old:  "if r.undone && r.recordCreatedAt == v.row.recordCreatedAt {",
		new:  "if false {",

		killer: "TestPartlyUndoneFlowRepeatsWhatWasUndone",
	},
	{
		name: "sqlpruned", // rows of keys that Redis still has are removed
		file: "contrib/sqlidem/prune.go",
		old:  "if !exist[i] {",
		new:  "if !exist[i] || i >= 0 {",

		killer: "TestPruneLeavesKeysThatRedisHas",
	},
	{
		name: "sqlunfenced", // a transaction does not compare its fence
		file: "contrib/sqlidem/stage.go",
		old:  "case fence > v.stage.Fence():",
		new:  "case fence < 0:",

		killer: "TestOlderWorkerIsRefused",
	},
	{
		name: "sqlunsettled", // a COMMIT that failed is taken for done
		file: "contrib/sqlidem/stage.go",
		old:  "case err == nil && done:",
		new:  "case err == nil && (done || true):",

		killer: "TestLostCommitsAreLookedUp",
	},
	{
		name: "sqlovertaken", // an event overtakes an earlier one of its key
		file: "contrib/sqlidem/relay.go",
		old:  "failed[e.Key] = !sent",
		new:  "failed[e.Key] = false",

		killer: "TestFailedEventIsNotOvertakenInItsBatch",
	},
	{
		name: "freshanswers", // a duplicate of a message gets other answers than the message
		file: "contrib/watermillidem/produced.go",
		old:  "message.NewMessage(uuid, p.Payload)",
		new:  "message.NewMessage(uuid+\"-again\", p.Payload)",

		killer: "TestEachMessageIsHandledOnceByCompetingConsumers", rung: "consumer",
	},
	{
		name: "sqlrelays", // a relay does not wait until the lease of another one has ended
		file: "contrib/sqlidem/relay.go",
		old:  "(owner = ? OR expires_at <= {now})",
		new:  "(owner = ? OR expires_at > 0 OR expires_at <= {now})",

		killer: "TestKilledRelaysPublishEachEventInOrder", rung: "sql",
	},
}
