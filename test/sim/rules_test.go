package sim

import (
	"errors"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// checkMayRun checks that the flow lets a stage or a compensation run at the key.
func (j *job) checkMayRun(key *redisidem.Key, attempt int) {
	w, point := j.worker.world, key.RecoveryPoint
	past := w.returnlessCommit(key) != nil
	first := w.observer.leases(j.key, key.Revision) == 1 // a lease without the flow ends a snooze
	w.mu.Lock()
	defer w.mu.Unlock()
	last := w.lastCommit(key)
	switch {
	case j.completing && attempt > w.plan.patience && !w.requeued[j.key]:
		w.violated("a completer runs %s of %s for the %d. time", point, j.key, attempt)
	case isCompensating(point):
	case w.plan.deadline > 0 && !past && time.Since(key.CreatedAt) > w.plan.deadline:
		w.violated("%s of %s runs %v after the key was made, later than its deadline", point, j.key, time.Since(key.CreatedAt))
	case first && last != nil && time.Now().Before(last.until):
		w.violated("%s of %s runs before its snooze has ended", point, j.key)
	case w.leftBehind(key):
		w.violated("%s of %s runs behind the last stage", point, j.key)
	case point == apology && attempt == 1:
		w.count.Apologized++
	}
	if last != nil && last.snoozes && j.completing {
		w.count.Awoken++
	}
}

// checkCause checks that there is a reason why the flow is failed.
func (j *job) checkCause(st *redisidem.Stage, cause error) {
	w, key := j.worker.world, st.Key()
	if w.returnlessCommit(key) != nil {
		w.violation("%s is failed behind its point of no return: %v", j.key, cause)
	}
	fits := false
	switch {
	case errors.Is(cause, redisidem.ErrDeadline):
		fits = w.plan.deadline > 0 && time.Since(key.CreatedAt) > w.plan.deadline-timeout
	case errors.Is(cause, redisidem.ErrCanceled):
		fits = !key.CanceledAt.IsZero()
	case errors.Is(cause, redisidem.ErrExhausted):
		fits = w.plan.exhausts && j.completing && st.Attempt() > w.plan.patience
	}
	if !fits {
		w.violation("%s is failed at attempt %d, %v after it was made, without a reason: %v", j.key, st.Attempt(), time.Since(key.CreatedAt), cause)
	}
}

// lastCommit returns the last result that a key's journal names, nil without one. The caller
// holds mu.
func (c *history) lastCommit(key *redisidem.Key) *result {
	if len(key.Journal) == 0 {
		return nil
	}
	return c.results[placeOf(key, key.Journal[len(key.Journal)-1])]
}

// returnlessCommit returns the journal entry of the key that is the point of no return, or nil.
func (c *history) returnlessCommit(key *redisidem.Key) *redisidem.JournalEntry {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range key.Journal {
		if r := c.results[placeOf(key, key.Journal[i])]; r != nil && r.returnless {
			return &key.Journal[i]
		}
	}
	return nil
}

// leftBehind reports whether the key is at another point than its last stage, to which it was moved
// because its attempts were used up. An adoption may move it back. The caller holds mu.
func (c *history) leftBehind(key *redisidem.Key) bool {
	moved := false
	for _, e := range key.Journal {
		if r := c.results[placeOf(key, e)]; r != nil {
			moved = (moved || r.exhausted) && !r.adopts
		}
	}
	return moved && key.RecoveryPoint != apology
}

// isPastReturn reports whether the key is known to be behind its point of no return for good.
func (c *history) isPastReturn(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.world.plan.deletes || c.world.plan.forgets {
		return false
	}
	for _, r := range c.results {
		if r.key == key && r.marked && r.state == committed {
			return true
		}
	}
	return false
}

// requeues records that completers may get further attempts at a key.
func (c *history) requeues(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requeued[key] = true
}
