package httpidem

import "context"

// Result is what became of one request. Each request has exactly one.
type Result int

// The results.
const (
	// ResultBypassed: the method is not covered, or no key was needed and none was there. The
	// handler ran unprotected.
	ResultBypassed Result = iota + 1
	// ResultExecuted: the handler ran, and its answer was stored and then sent.
	ResultExecuted
	// ResultReleased: the handler ran, and its answer was sent and, by the status policy, not
	// stored: a retry runs the handler.
	ResultReleased
	// ResultOutcomeUnknown: as ResultReleased, and the outcome of the work is unknown.
	ResultOutcomeUnknown
	// ResultNotKept: the handler ran, and its answer was sent. That it ran is stored, but not the
	// answer.
	ResultNotKept
	// ResultReplayed: the answer of an earlier request was sent.
	ResultReplayed
	// ResultGone: an earlier request was executed, and its answer was not kept.
	ResultGone
	// ResultInFlight: an earlier request is still being worked on.
	ResultInFlight
	// ResultMismatch: the key was first used with another request.
	ResultMismatch
	// ResultMissing: a key is required, and none was there.
	ResultMissing
	// ResultMalformed: the header field holds no key.
	ResultMalformed
	// ResultKeyRefused: KeyConfig.Check refused the key.
	ResultKeyRefused
	// ResultKeyOutOfWindow: the key was made too long ago, or in the future.
	ResultKeyOutOfWindow
	// ResultNoScope: the scope function could not tell whose request it is.
	ResultNoScope
	// ResultNotAllowed: Config.Authorize refused the request.
	ResultNotAllowed
	// ResultOverQuota: Config.Quota refused the request, and its key has no answer.
	ResultOverQuota
	// ResultBodyTooLarge: the request's body is over Config.MaxBodyBytes, or what a flow is to know
	// of it over the service's MaxValueBytes.
	ResultBodyTooLarge
	// ResultBodyUnreadable: the request's body could not be read to its end, or has no fingerprint.
	ResultBodyUnreadable
	// ResultUnavailable: nothing ran, since the store gave no usable answer.
	ResultUnavailable
	// ResultOpened: the store gave no usable answer, and the handler ran unprotected since
	// Config.FailOpen says so.
	ResultOpened
	// ResultUnacknowledged: the handler ran, and Redis has not acknowledged its answer.
	ResultUnacknowledged
	// ResultSuperseded: the handler ran, but for so long that another worker took over. Its answer
	// was refused by the store, and not sent.
	ResultSuperseded
	// ResultFailed: the record cannot be used or made: it is damaged, or the program and the store
	// do not fit.
	ResultFailed
	// ResultUnfinished: a stage of the flow failed, or the flow is not this program's. A retry
	// continues at that stage.
	ResultUnfinished
	// ResultPanicked: the handler panicked. The panic goes on with its own value.
	ResultPanicked
)

// String returns the result as a word for metrics.
func (r Result) String() string {
	names := [...]string{
		ResultBypassed: "bypassed", ResultExecuted: "executed", ResultReleased: "released", ResultOutcomeUnknown: "outcome-unknown", ResultNotKept: "not-kept",
		ResultReplayed: "replayed", ResultGone: "gone", ResultInFlight: "in-flight", ResultMismatch: "mismatch", ResultMissing: "missing",
		ResultMalformed: "malformed", ResultKeyRefused: "key-refused", ResultKeyOutOfWindow: "key-out-of-window", ResultNoScope: "no-scope",
		ResultNotAllowed: "not-allowed", ResultOverQuota: "over-quota", ResultBodyTooLarge: "body-too-large", ResultBodyUnreadable: "body-unreadable", ResultUnavailable: "unavailable", ResultOpened: "opened",
		ResultUnacknowledged: "unacknowledged", ResultSuperseded: "superseded", ResultFailed: "failed", ResultUnfinished: "unfinished", ResultPanicked: "panicked",
	}
	if r <= 0 || int(r) >= len(names) {
		return "invalid"
	}
	return names[r]
}

// Event is the result of one request, for Config.Observer. No field holds a key, a scope or a
// body.
type Event struct {
	// Result is what became of the request.
	Result Result
	// Status is that of the answer; 0 when the handler ran unprotected, took the connection over,
	// or panicked.
	Status int
	// Err is why, if there was an error. An error of the scope function's or of KeyConfig.Check is
	// the program's own: mind what it holds before logging it.
	Err error
}

// observe reports the result of a request to the observer.
func (m *Middleware) observe(ctx context.Context, r Result, status int, err error) {
	if m.cfg.Observer != nil {
		m.cfg.Observer(ctx, Event{Result: r, Status: status, Err: err})
	}
}
