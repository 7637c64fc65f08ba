package redisidem

import (
	"slices"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// clockMargin is by how much a key may be too young for a preselection: masters of a cluster have
// clocks of their own, and any of them may be asked.
const clockMargin = time.Minute

// preselection says by a few fields of a record that a filter does not match it.
type preselection struct {
	scope  string                                   // which the record must have; "" for any
	open   bool                                     // whether the key must not be finished
	fields []string                                 // that are read: the request, the recovery point, and one for each of tests
	tests  []func(stored string, at time.Time) bool // at is when it was read
}

// preselection returns nil if all of a record must be read to know that it does not match.
func (f *Filter) preselection() *preselection {
	p := &preselection{
		scope:  f.Scope,
		open:   len(f.States) > 0 && !slices.Contains(f.States, KeyFinished) && !slices.Contains(f.States, KeyUnreadable),
		fields: []string{fieldRequest, fieldPoint},
	}
	if f.Flow != "" {
		p.test(fieldFlow, func(stored string, _ time.Time) bool { return stored == f.Flow || protocol.FlowName(stored) == f.Flow })
	}
	if f.Failure != "" {
		p.test(fieldLastFailure, func(stored string, _ time.Time) bool { return stored != "" })
	}
	if f.Attempts > 0 {
		p.test(fieldControl, func(stored string, _ time.Time) bool {
			c, err := decodeControl(stored)
			return err == nil && c.attempts >= int64(f.Attempts)
		})
	}
	if f.OlderThan > 0 {
		p.test(fieldControl, func(stored string, at time.Time) bool {
			c, err := decodeControl(stored)
			return err == nil && at.Sub(c.created) >= f.OlderThan-clockMargin
		})
	}
	if p.scope == "" && !p.open && len(p.tests) == 0 {
		return nil
	}
	return p
}

// test adds what the stored value of a field must be. An unreadable record is in no list that asks
// for such a field.
func (p *preselection) test(field string, passes func(stored string, at time.Time) bool) {
	p.fields, p.tests = append(p.fields, field), append(p.tests, passes)
}

// mayMatch reports whether a record may match, by the values of the fields. They are nil for a
// Redis key of another type. known is false if there is a scope to match, and the record's cannot
// be read.
func (p *preselection) mayMatch(values []string, at time.Time) (may, known bool) {
	if p.scope != "" {
		scope, known := scopeOf(values)
		if scope != p.scope {
			return false, known
		}
	}
	if values == nil {
		return len(p.tests) == 0, true
	}
	if p.open && values[1] == Finished {
		return false, true
	}
	for i, passes := range p.tests {
		if !passes(values[i+2], at) {
			return false, true
		}
	}
	return true, true
}

// scopeOf returns the scope of a record from its request and its recovery point. known is false for
// a record that is damaged there; a record that is gone, or a tombstone, has neither.
func scopeOf(values []string) (scope string, known bool) {
	if len(values) == 0 {
		return "", false
	}
	r, ok := protocol.ParseRequest(values[0])
	return r.Scope, ok || values[0]+values[1] == ""
}
