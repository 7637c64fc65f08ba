package httpidem

import (
	"context"

	"github.com/redisidem/redisidem/redisidem"
)

// Quota limits how many requests in flight and how many keys one scope may have. It is called
// concurrently. A [redisidem.Quota] is one whose limits hold in all processes together.
type Quota interface {
	// Admit is called for each request with a key, before its body is read and before the store is
	// called, and for each request whose key may be in its body. An error refuses the request with
	// 429, and with the RetryAfter of a [*QuotaError]. A key that has a stored response is answered
	// from the store instead, since this runs and stores nothing.
	//
	// If the error is nil, done is called once, when the request ends. created reports whether the
	// request made the first attempt on its key. Its record stays for the service's Retention.
	Admit(ctx context.Context, scope string) (done func(created bool), err error)
}

// QuotaError reports that a scope has used up a quota. At least 1 s is sent as Retry-After.
type QuotaError = redisidem.QuotaError

// quotaSlot is the place of a request in the quota of its scope. The zero value belongs to a
// request without a quota.
type quotaSlot struct {
	done    func(created bool)
	created bool
}

// isNew reports whether the request counts as the one that created the record. That is the request
// with the first attempt. Usually its claim has also created the record. A claim that was refused,
// or whose reply was lost, can leave a record without an attempt; the next request then counts.
func isNew(key *redisidem.Key) bool { return key.Attempts == 1 && !key.Replayed() }

func (p *quotaSlot) release() {
	if p.done != nil {
		p.done(p.created)
	}
}

// admit asks for a place in the scope's quota, and reports whether the request may continue. A
// request that the quota refuses continues if the key has a stored response. Otherwise admit
// answers it.
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
	if x.key != "" { // else it may be in the body
		if key, missed := x.scope.Retrieve(x.r.Context(), x.key); missed == nil && key.Finished() {
			return true
		}
	}
	x.refuse(m.problem(ResultOverQuota), err)
	return false
}
