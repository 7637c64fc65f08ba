package redisidem

import (
	"strings"
	"time"
)

// Snooze returns an Outcome that answers this caller and runs the same stage again in d: to ask a
// provider once more, or to wait for a customer. It is an interim answer with a time. The commit
// stores the state that the outcome has, costs no attempt, and survives crashes.
//
// In a [Flow], calls that come before that time get the same answer again, and the stage does not
// run: otherwise a client that polls would decide how often the provider is asked.
// [Outcome.UntilCalled] changes that. A [Completer] runs the stage at that time; without
// RecoverAfter, the first call after it does. Outside of a flow, each call continues the work, as
// after [Interim]. So does a lease that is taken without the flow on a flow's key ([Scope.Lock],
// [Scope.WorkStage]): it ends the wait, whatever becomes of it.
//
// Each snooze is a commit, so the next run of the stage has other outbound keys: see
// [Stage.OutboundKey]. Call a provider in a stage of its own, and ask it for the result in the next
// one, which snoozes.
//
// The time is the server's, and [Key.SnoozedUntil] returns it. d is at least 1 ms and at most half
// of Config.Retention, because the key would expire: other values are replaced by these bounds.
// There is no limit to the number of snoozes: the journal keeps one entry for snoozes of a stage
// that follow each other. [FlowConfig].MaxAttempts says when a Completer gives up a key that only
// gets interim answers.
func Snooze(d time.Duration, r Response) Outcome {
	return Outcome{Response: &r, Interim: true, snooze: max(d, time.Millisecond)}
}

// UntilCalled returns the outcome of [Snooze] with one change: a call that comes before the time
// runs the stage. It is for a stage that waits for the client itself, for instance until a customer
// has confirmed a payment.
func (o Outcome) UntilCalled() Outcome {
	o.untilCalled = true
	return o
}

// merges reports whether the outcome's journal entry replaces the last one of the key: both are
// snoozes of the same stage. A key that is asked about for a day would otherwise fill its journal.
func (o *encodedOutcome) merges(k *Key) bool {
	n := len(k.Journal)
	return o.snooze > 0 && !k.SnoozedUntil.IsZero() && n > 0 && k.Journal[n-1].Stage == k.RecoveryPoint
}

// decodeSnooze reads "1" or "1 milliseconds", the form in which an interim answer is marked.
func decodeSnooze(s string) (time.Duration, error) {
	_, ms, snoozed := strings.Cut(s, " ")
	if !snoozed {
		return 0, nil
	}
	n, err := parseCount(fieldInterim, ms)
	return time.Duration(min(n, maxDuration.Milliseconds())) * time.Millisecond, err
}
