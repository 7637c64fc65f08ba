// Package promidem is a Prometheus collector for programs that use package redisidem.
//
//	metrics := promidem.New(nil)
//	svc, err := redisidem.Open(ctx, url, &redisidem.Config{Observer: metrics})
//	metrics.Watch(svc)
//	prometheus.MustRegister(metrics)
//
// The events of the service bring these metrics:
//
//	redisidem_events_total{kind,flow,stage}  events of keys: see redisidem.EventKind
//	redisidem_errors_total{kind,reason}      events with an error: see redisidem.Reason
//	redisidem_claim_seconds{flow}            how long callers waited for a lease that they got
//	redisidem_stage_seconds{flow,stage}      from the claim, or the commit before, to the commit
//	redisidem_renewal_seconds                round trips of renewals
//
// Watch adds the numbers of this process:
//
//	redisidem_leases_held           leases that have not ended
//	redisidem_stages_hung           stages that go on although their contexts ended long ago
//	redisidem_commits_pending       commits without an answer that are being retried
//	redisidem_give_backs_pending    leases that are being given back in the background
//	redisidem_copies                copies of finished records
//	redisidem_copy_bytes            about how much memory they take
//	redisidem_copy_lookups_total{hit}
//
// WatchQuota adds the numbers of a redisidem.Quota:
//
//	redisidem_scope_use_ratio{quota}     highest use, as a part of the limit: in-flight, keys
//	redisidem_scope_shares               scopes of whose quota this process has a share
//	redisidem_scope_calls_total{result}  calls to Redis about quotas: answered, failed
//	redisidem_scope_refused_total        requests that a quota had no place for
//	redisidem_scope_alone_total          requests admitted while Redis did not answer
//
// Watch also adds what Redis has. These numbers are the same in each process, so use max and not
// sum over several processes:
//
//	redisidem_redis_up              1 if Redis acknowledged a write at the last look
//	redisidem_redis_check{subject}  worst verdict of Service.Check, from 1, good, to 4, failure
//	redisidem_look_failed{part}     1 if the last look at it failed; parts: flows, check
//	redisidem_dead_letters{flow}    keys that a completer gave up
//	redisidem_due{flow}             keys that a completer will continue
//	redisidem_overdue{flow}         those of them that it may continue already
//
// A look that fails leaves out what it could not read: redisidem_redis_check for the part check,
// and the numbers of flows for the part flows. If Redis acknowledges no write, all of them are
// missing but redisidem_redis_up.
//
// Flows need no configuration: a flow that a completer scans is found, and is then counted for as
// long as the process lives, because its keys become overdue when its completers are gone. A
// process that starts after that does not know the flow. Name it in Config.Flows.
//
// Labels contain no key, no scope and no path.
package promidem
