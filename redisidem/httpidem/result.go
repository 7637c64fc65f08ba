package httpidem

import (
	"context"
	"sync/atomic"
)

// Result is what became of one request. Each request has exactly one.
type Result int

// The results.
const (
	// Bypassed: the method is not covered, or no key was needed and none was there. The handler ran unprotected.
	Bypassed Result = iota + 1
	// Executed: the handler ran, and its answer was stored and then sent.
	Executed
	// Released: the handler ran, and its answer was sent and, by the status policy, not stored: a retry runs the handler.
	Released
	// Ambiguous: as Released, and nobody knows whether the work was done.
	Ambiguous
	// NotKept: the handler ran, and its answer was sent. That it ran is stored, but not the answer.
	NotKept
	// Replayed: the answer of an earlier request was sent.
	Replayed
	// Gone: an earlier request was executed, and its answer was not kept.
	Gone
	// InFlight: an earlier request is still being worked on.
	InFlight
	// Mismatch: the key was first used with another request.
	Mismatch
	// Missing: a key is required, and none was there.
	Missing
	// Malformed: the header field holds no key.
	Malformed
	// KeyRefused: Config.CheckKey refused the key.
	KeyRefused
	// KeyOutOfWindow: the key was made too long ago, or in the future.
	KeyOutOfWindow
	// NoScope: the scope function could not tell whose request it is.
	NoScope
	// NotAllowed: Config.Authorize refused the request.
	NotAllowed
	// OverQuota: Config.Quota refused the request, and its key has no answer.
	OverQuota
	// BodyTooLarge: the request's body is over Config.MaxBodyBytes, or what a flow is to know of it over the service's MaxValueBytes.
	BodyTooLarge
	// BodyUnreadable: the request's body could not be read to its end, or has no fingerprint.
	BodyUnreadable
	// Unavailable: nothing ran, since the store gave no usable answer.
	Unavailable
	// Opened: the store gave no usable answer, and the handler ran unprotected since Config.FailOpen says so.
	Opened
	// Uncommitted: the handler ran, and nobody knows yet whether its answer is stored.
	Uncommitted
	// Superseded: the handler ran, but for so long that another worker took over. Its answer was refused by the store, and
	// not sent.
	Superseded
	// Failed: the record cannot be used or made: it is damaged, or the program and the store do not fit.
	Failed
	// Unfinished: a stage of the flow failed, or the flow is not this program's. A retry continues at that stage.
	Unfinished
	// Panicked: the handler panicked. The panic goes on with its own value.
	Panicked

	results
)

// String returns the result as a word for metrics.
func (r Result) String() string {
	names := [...]string{
		Bypassed: "bypassed", Executed: "executed", Released: "released", Ambiguous: "ambiguous", NotKept: "not-kept",
		Replayed: "replayed", Gone: "gone", InFlight: "in-flight", Mismatch: "mismatch", Missing: "missing",
		Malformed: "malformed", KeyRefused: "key-refused", KeyOutOfWindow: "key-out-of-window", NoScope: "no-scope",
		NotAllowed: "not-allowed", OverQuota: "over-quota", BodyTooLarge: "body-too-large", BodyUnreadable: "body-unreadable", Unavailable: "unavailable", Opened: "opened",
		Uncommitted: "uncommitted", Superseded: "superseded", Failed: "failed", Unfinished: "unfinished", Panicked: "panicked",
	}
	if r <= 0 || int(r) >= len(names) {
		return "invalid"
	}
	return names[r]
}

// Event is what a Config.Observer is told about one request. No field holds a key, a scope or a body.
type Event struct {
	// Result is what became of the request.
	Result Result
	// Status is that of the answer; 0 when the handler ran unprotected, took the connection over, or panicked.
	Status int
	// Err is why, if there was an error. An error of the scope function's or of Config.CheckKey is the program's own: mind what
	// it holds before logging it.
	Err error
}

// counts counts results.
type counts [results]atomic.Int64

// Count returns how many requests had that result so far.
func (m *Middleware) Count(r Result) int64 {
	if r <= 0 || r >= results {
		return 0
	}
	return m.counts[r].Load()
}

// tell counts a result, and tells the observer.
func (m *Middleware) tell(ctx context.Context, r Result, status int, err error) {
	m.counts[r].Add(1)
	if m.cfg.Observer != nil {
		m.cfg.Observer(ctx, Event{Result: r, Status: status, Err: err})
	}
}
