package httpidem

import "net/http"

// problemText is the part of a problem that depends only on the result.
type problemText struct {
	status        int
	title, detail string
}

var problemTexts = map[Result]problemText{
	ResultMissing: {
		http.StatusBadRequest, "Idempotency-Key is missing",
		"This operation requires an idempotency key. Send a fresh one with each new request, and the same one with its retries.",
	},
	ResultMalformed: {
		http.StatusBadRequest, "Idempotency-Key is malformed", "Correct the header field.",
	},
	ResultKeyRefused: {
		http.StatusBadRequest, "Idempotency-Key is not acceptable", "Send a key in the form that this API asks for.",
	},
	ResultKeyOutOfWindow: {
		http.StatusBadRequest, "Idempotency-Key is outside its time window",
		"The time in the key is too long ago, or in the future. Send a key that was made with the request.",
	},
	ResultNoScope: {
		http.StatusForbidden, "The caller is not known", "The caller could not be identified.",
	},
	ResultNotAllowed: {
		http.StatusForbidden, "The caller may not do this", "The request was refused before its idempotency key was looked at.",
	},
	ResultOverQuota: {
		http.StatusTooManyRequests, "Too many requests with an Idempotency-Key",
		"The caller has used up a quota. The request was not executed. Try again later, with the same key.",
	},
	ResultBodyTooLarge: {
		http.StatusRequestEntityTooLarge, "The request's body is too large",
		"Requests with an idempotency key are limited in size. Send a smaller body.",
	},
	ResultBodyUnreadable: {
		http.StatusBadRequest, "The request's body cannot be read", "It ended early, or it is not what its header fields say.",
	},
	ResultMismatch: {
		http.StatusUnprocessableEntity, "Idempotency-Key is already used",
		"The key was first used with another request. Send a fresh key with each new request.",
	},
	ResultInFlight: {
		http.StatusConflict, "A request is outstanding for this Idempotency-Key",
		"An earlier request with this key is still being worked on. Try again later, with the same key.",
	},
	ResultUnfinished: {
		http.StatusServiceUnavailable, "The request is not finished",
		"A part of the work could not be done now. Try again later, with the same key: what was done is not done again.",
	},
	ResultSuperseded: {
		http.StatusConflict, "A request is outstanding for this Idempotency-Key",
		"Another server took this request over. Try again later, with the same key, to get its answer.",
	},
	ResultGone: {
		http.StatusGone, "The answer to this request was not kept",
		"The request with this key was executed, and its answer cannot be repeated. Do not send it again with another key.",
	},
	ResultUnavailable: {
		http.StatusServiceUnavailable, "Idempotency keys are unavailable",
		"The request was not executed. Try again later, with the same key.",
	},
	ResultUnacknowledged: {
		http.StatusServiceUnavailable, "The outcome of this request is not known yet",
		"The request was executed, and its answer may not be stored yet. Try again later, with the same key.",
	},
	ResultFailed: {
		http.StatusInternalServerError, "The idempotency key cannot be used",
		"The request was not executed. Repeating it will not help before the server's operators have acted.",
	},
}

// problemName returns the name of a result in problems. Clients depend on it, so it stays the same
// when a result is renamed. Results that differ only for operators share a name.
func (r Result) problemName() string {
	switch r { //nolint:exhaustive // all others have one name
	case ResultSuperseded:
		return ResultInFlight.String()
	case ResultUnacknowledged:
		return "uncommitted"
	}
	return r.String()
}
