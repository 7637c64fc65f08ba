package httpidem

import (
	"context"
	"errors"
	"time"
)

// Quota bounds what one scope may use of the process and of the store. It is used concurrently.
type Quota interface {
	// Admit is asked about each request with a key, before its body is read and before the store is
	// asked. An error refuses the request: it is answered with 429 and the RetryAfter of a
	// [*QuotaError], unless its key has an answer already, which is given, since that runs and
	// stores nothing. After a nil error done is called once, when the request ends, and made
	// reports whether a record was made for it, which stays for the service's Retention.
	Admit(ctx context.Context, scope string) (done func(made bool), err error)
}

// QuotaError says that a scope has used up a quota. It never names the scope.
type QuotaError struct {
	// What says which quota it is, as in "requests in flight", and Limit how much it is.
	What  string
	Limit int
	// RetryAfter is how long it will stopWatching used up, as far as is known.
	RetryAfter time.Duration
}

func (e *QuotaError) Error() string { return "httpidem: a scope has used up its quota of " + e.What }

// quotaSlot is a request's place in the quota of its scope. The zero value is that of a request
// without a quota.
type quotaSlot struct {
	done func(made bool)
	made bool
}

func (p *quotaSlot) release() {
	if p.done != nil {
		p.done(p.made)
	}
}

// admit asks for a place in the scope's quota. If the quota refuses it and the key has no stored
// response, it refuses the request, and reports that.
func (x *keyedRequest) admit() (admitted bool) {
	m := x.middleware
	if m.cfg.Quota == nil {
		return true
	}
	var err error
	if x.slot.done, err = m.cfg.Quota.Admit(x.r.Context(), x.scope.Name()); err == nil {
		return true
	}
	x.slot.done = nil
	if key, missed := x.scope.Retrieve(x.r.Context(), x.key); missed == nil && key.Finished() {
		return true
	}
	p := m.problem(ResultOverQuota)
	p.RetryAfter = time.Second
	if quota := (*QuotaError)(nil); errors.As(err, &quota) {
		p.RetryAfter = max(p.RetryAfter, quota.RetryAfter)
	}
	m.refuse(x.w, x.r, p, err)
	return false
}
