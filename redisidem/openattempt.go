package redisidem

import (
	"errors"
	"strings"
	"time"
)

// openAttempt is an attempt at a stage whose end is not known: its process died, or it was cut
// short.
type openAttempt struct {
	revision int64
	began    time.Time // when it claimed the key, or zero
}

func decodeOpenAttempt(s string) (openAttempt, error) {
	revision, began, _ := strings.Cut(s, " ")
	n, err := parseCount(fieldOpenAttempt, revision)
	at, err1 := parseTime(fieldOpenAttempt, began)
	return openAttempt{n, at}, errors.Join(err, err1)
}

// openAttemptBefore returns when the last open attempt before a claim began that got this fence. k
// is the record before the claim.
func (k *Key) openAttemptBefore(fence int64) (began time.Time) {
	rare := k.rareFields()
	if rare.open.revision == k.Revision {
		began = rare.open.began
	}
	if rare.leasedBy != "" && rare.leasedAt.UnixMicro() != fence { // not the claim itself, whose reply was lost
		began = latest(began, rare.leasedAt)
	}
	return began
}

// OpenAttempt returns when the last earlier attempt at this stage began whose end is not known: its
// process died, its lease was lost, or [Service.Close] stopped it. What it called may still be at
// work. It returns the zero Time if each earlier attempt has ended. The time is the server's, as
// [Key.LockedAt] of [Stage.Key] is, which is when this attempt began.
func (st *Stage) OpenAttempt() time.Time {
	if st.lease.committedBefore() {
		return time.Time{}
	}
	return st.lease.openAttempt
}

// KeepUnsettled makes the record live for at least Config.DeadLetterRetention if this attempt ends
// without a result, and it or an earlier one at the stage counts. It is for work that only an
// operator can settle once its outcome is unknown: if the record expired, a retry would be a first
// attempt. A process that dies does not extend the life of its records.
func (st *Stage) KeepUnsettled() { st.lease.unsettled.Store(true) }
