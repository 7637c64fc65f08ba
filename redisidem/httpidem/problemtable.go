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
		http.StatusBadRequest, "Idempotency-Key is malformed", "The header field does not hold a valid key. Correct it and send the request again.",
	},
	ResultKeyRefused: {
		http.StatusBadRequest, "Idempotency-Key is not acceptable",
		"This API does not accept the key. This request was not executed. Send a key in the form that its documentation describes. If it is a " +
			"retry, find out first whether the earlier request was executed.",
	},
	ResultKeyOutOfWindow: {
		http.StatusBadRequest, "Idempotency-Key is outside its time window",
		"The creation time in the key is too far in the past or in the future. This request was not executed. Send a key that was created " +
			"for this request. If it is a retry, find out first whether the earlier request was executed.",
	},
	ResultNoScope: {
		http.StatusForbidden, "The caller is not identified", "The server could not identify the caller. Check the credentials of the request.",
	},
	ResultNotAllowed: {
		http.StatusForbidden, "The caller is not authorized", "This request was not executed, and did not use its idempotency key.",
	},
	ResultBadSignature: {
		http.StatusForbidden, "The signature of the webhook is not valid",
		"This delivery was not handled. Sign the bytes of the body with the current secret, and check the clock.",
	},
	ResultOverQuota: {
		http.StatusTooManyRequests, "Too many requests with an Idempotency-Key",
		"The caller has reached its limit of requests or keys. This request was not executed. Try again later, with the same key.",
	},
	ResultBodyTooLarge: {
		http.StatusRequestEntityTooLarge, "The request's body is too large",
		"The body is larger than this operation accepts. Send a smaller body.",
	},
	ResultBodyUnreadable: {
		http.StatusBadRequest, "The request's body cannot be read", "The body is incomplete or invalid. Correct it and send the request again.",
	},
	ResultSpoolUnavailable: {
		http.StatusServiceUnavailable, "The request's body cannot be stored",
		"The server has no room for a body of this size at the moment. This request was not executed. Try again later, with the same key.",
	},
	ResultMismatch: {
		http.StatusUnprocessableEntity, "Idempotency-Key is already used",
		"The key was first used with another request, which may have been executed. This request was not. If it is a new one, send it with a " +
			"fresh key. If it is a retry, do not: find out first whether the earlier request was executed.",
	},
	ResultInFlight: {
		http.StatusConflict, "A request is outstanding for this Idempotency-Key",
		"An earlier request with this key is still running. Try again later, with the same key.",
	},
	ResultTimedOut: {
		http.StatusGatewayTimeout, "The request is taking too long",
		"The request is still running. Try again later, with the same key, to get the response.",
	},
	ResultUnfinished: {
		http.StatusServiceUnavailable, "The request is not finished",
		"A step of the request failed. Try again later, with the same key. Completed steps do not run again.",
	},
	ResultPaused: {
		http.StatusServiceUnavailable, "The operation is paused",
		"The operator of the server has paused this operation. Try again later, with the same key.",
	},
	ResultSuperseded: {
		http.StatusConflict, "A request is outstanding for this Idempotency-Key",
		"Another server has taken over this request. Try again later, with the same key, to get the response.",
	},
	ResultGone: {
		http.StatusGone, "The response to this request was not kept",
		"The request with this key was executed, but its response cannot be repeated. Do not send it again with another key.",
	},
	ResultUnavailable: {
		http.StatusServiceUnavailable, "Idempotency keys are unavailable",
		"This request was not executed. Try again later, with the same key.",
	},
	ResultUnacknowledged: {
		http.StatusServiceUnavailable, "The outcome of this request is unknown",
		"The request was executed, but its response may not be stored. Try again later, with the same key.",
	},
	ResultFailed: {
		http.StatusInternalServerError, "The idempotency key cannot be used",
		"This attempt was not executed, but an earlier one may have been. Retries fail until the operator of the server has " +
			"solved the problem. Do not send the request with another key until then.",
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
