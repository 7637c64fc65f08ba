package httpidem

// Result is the result of one request. Each request has exactly one.
type Result int

// The results.
const (
	// ResultBypassed: the method is not covered, or the request has no key and needs none. The
	// handler ran without protection, or a flow or a webhook answered with 405.
	ResultBypassed Result = iota + 1
	// ResultExecuted: the handler ran. Its response was stored and then sent.
	ResultExecuted
	// ResultReleased: the handler ran. Its response was sent and not stored, and a retry runs the
	// handler again.
	ResultReleased
	// ResultOutcomeUnknown is ResultReleased with an unknown outcome of the work.
	ResultOutcomeUnknown
	// ResultNotKept: the handler ran. Its response was sent, and only the fact that it ran was
	// stored.
	ResultNotKept
	// ResultReplayed: the stored response of an earlier request was sent.
	ResultReplayed
	// ResultGone: an earlier request was executed, and its response was not kept.
	ResultGone
	// ResultInFlight: an earlier request is still running.
	ResultInFlight
	// ResultTimedOut: the client has waited for as long as [Middleware.TimeoutHandler] allows. The
	// handler continues, and its result follows with Event.Late.
	ResultTimedOut
	// ResultMismatch: the key was first used with another request.
	ResultMismatch
	// ResultMissing: a key is required, and the request has none.
	ResultMissing
	// ResultMalformed: the header field does not hold a valid key.
	ResultMalformed
	// ResultKeyRefused: KeyConfig.Check refused the key.
	ResultKeyRefused
	// ResultKeyOutOfWindow: the key was created too long ago, or in the future. See [KeysWithin].
	ResultKeyOutOfWindow
	// ResultNoScope: the scope function returned an error.
	ResultNoScope
	// ResultNotAllowed: Config.Authorize refused the request.
	ResultNotAllowed
	// ResultOverQuota: Config.Quota refused the request, and its key has no stored response.
	ResultOverQuota
	// ResultBodyTooLarge: the body is larger than Config.MaxBodyBytes, or the params of a flow are
	// larger than the service's MaxValueBytes.
	ResultBodyTooLarge
	// ResultBodyUnreadable: the body could not be read to its end, or its [FingerprintFunc] or
	// [ParamsFunc] returned an error.
	ResultBodyUnreadable
	// ResultUnavailable: the handler did not run, since the store gave no usable answer, or the
	// client disconnected first.
	ResultUnavailable
	// ResultOpened: the store was unavailable, and the handler ran without protection because of
	// Config.FailOpen.
	ResultOpened
	// ResultUnacknowledged: the handler ran, and Redis has not acknowledged its response.
	ResultUnacknowledged
	// ResultSuperseded: the handler lost its lease, and another worker took over. The store refused
	// its response, which was not sent unless a part of it was sent before.
	ResultSuperseded
	// ResultFailed: the record cannot be used or created. It is damaged or belongs to a flow, or
	// middlewares are nested on it, or the scope or the request is invalid.
	ResultFailed
	// ResultUnfinished: a stage of the flow failed, or the record belongs to another flow. A retry
	// continues at that stage.
	ResultUnfinished
	// ResultPanicked: the handler panicked. The panic continues with its own value.
	ResultPanicked
	// ResultPaused: an operator has paused the flow for clients. Nothing ran, and the key is as it
	// was. See [redisidem.Inspector.Pause].
	ResultPaused
	// ResultBadSignature: the sender of the webhook has not signed the request, or not lately. See
	// [NewWebhook].
	ResultBadSignature
	// ResultOversize: the body is larger than Config.MaxBodyBytes, and the handler ran without
	// protection because of Config.PassTooLarge.
	ResultOversize
	// ResultSpoolUnavailable: the body does not fit into Config.Spool, or could not be written to
	// it or read from it. The handler did not run.
	ResultSpoolUnavailable
)

// String returns the result as a label for metrics.
func (r Result) String() string {
	names := [...]string{
		ResultBypassed: "bypassed", ResultExecuted: "executed", ResultReleased: "released", ResultOutcomeUnknown: "outcome-unknown", ResultNotKept: "not-kept",
		ResultReplayed: "replayed", ResultGone: "gone", ResultInFlight: "in-flight", ResultTimedOut: "timed-out", ResultMismatch: "mismatch", ResultMissing: "missing",
		ResultMalformed: "malformed", ResultKeyRefused: "key-refused", ResultKeyOutOfWindow: "key-out-of-window", ResultNoScope: "no-scope",
		ResultNotAllowed: "not-allowed", ResultOverQuota: "over-quota", ResultBodyTooLarge: "body-too-large", ResultBodyUnreadable: "body-unreadable", ResultUnavailable: "unavailable", ResultOpened: "opened",
		ResultUnacknowledged: "unacknowledged", ResultSuperseded: "superseded", ResultFailed: "failed", ResultUnfinished: "unfinished", ResultPanicked: "panicked", ResultPaused: "paused", ResultBadSignature: "bad-signature",
		ResultOversize: "oversize", ResultSpoolUnavailable: "spool-unavailable",
	}
	if r <= 0 || int(r) >= len(names) {
		return "invalid"
	}
	return names[r]
}
