package redisidem

import (
	"time"
)

// rareFields is what only few records have. It is behind a pointer, because most keys are copied
// several times and have none of it.
type rareFields struct {
	requeued   requeue
	refused    refusals
	open       openAttempt
	generation int64 // how many records were deleted, each within a retention of the next
	// leasedAt and leasedBy are of the lease in the record that was not given back. Its lock may
	// have lapsed.
	leasedAt time.Time
	leasedBy string
}

// rareFields returns what the key has of these fields.
func (k *Key) rareFields() rareFields {
	if k.rare == nil {
		return rareFields{}
	}
	return *k.rare
}

// withoutLease returns the fields of a key whose lease was claimed.
func (r *rareFields) withoutLease() *rareFields {
	if r == nil || r.leasedBy == "" {
		return r
	}
	other := *r
	other.leasedAt, other.leasedBy = time.Time{}, ""
	return &other
}
