package sim

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/redisidem/redisidem/redisidem"
)

// history is the record of everything that the workers did and learned, and its violations.
type history struct {
	world *world

	mu         sync.Mutex
	ticks      int64 // orders events: a clock would give the same time to events that have an order
	lines      []string
	violations []string
	operations []porcupine.Operation
	results    map[place]*result // of all callbacks that ended with a result to commit
	byValue    map[string]*result
	holders    map[string][]holder
	fences     map[string]int64  // of the last callback that began, by key
	revoked    map[string]bool   // from now on an operator may take the key from its worker at any time
	removed    map[string]bool   // from now on an operator may delete the key's record at any time
	requeued   map[string]bool   // a completer may have further attempts at the key
	origins    map[string]string // by traceparent, the key that the traced call was about
	count      tally
}

// tally counts the events of histories.
type tally struct {
	Operations, Callbacks, Committed, Fenced, Unknown, Landed, Unavailable, Locked, Replayed, Lost, Removed, Updated, Swept,
	GivenBack, Buried, Requeued, Snoozed, Early, Late, Exhausted, Canceled, TooLate, Paused, Resumed,
	TurnedAway, Reindexed, Adopted, Outdated, RequeuedTogether, Bounded, Traced,
	Continued, Turns, Refused, Ran, Hung, Lent, Awoken, PastReturn, Kept, Apologized, Undone int
}

func (t *tally) add(o tally) {
	sum, more := reflect.ValueOf(t).Elem(), reflect.ValueOf(o)
	for i := range sum.NumField() {
		sum.Field(i).SetInt(sum.Field(i).Int() + more.Field(i).Int())
	}
}

// lacks reports the events that never happened. The histories prove nothing about these.
func (t *tally) lacks(tb testing.TB) {
	tb.Helper()
	counts := reflect.ValueOf(*t)
	for i := range counts.NumField() {
		if counts.Field(i).Int() == 0 {
			tb.Errorf("in no history there is anything %s", counts.Type().Field(i).Name)
		}
	}
}

// place identifies a result: each revision is committed once, under one lease.
type place struct {
	id              string
	fence, revision int64
}

// placeOf returns the place of a journal entry. An operator does not know its fence beforehand. Its
// entry is the only one of its worker.
func placeOf(key *redisidem.Key, e redisidem.JournalEntry) place {
	if e.Attempt == 0 {
		return place{id: key.ID() + " by " + e.Owner, revision: e.Revision}
	}
	return place{key.ID(), e.Fence, e.Revision}
}

// result is the result that a callback commits.
type result struct {
	place
	key, value string
	made       int64     // of the record
	before     string    // the values that the result extends
	answers    bool      // it has a response
	interim    bool      // the response is an interim one
	snoozes    bool      // the stage is to run again at a time
	until      time.Time // not before this time, unless a caller needs not wait for it
	returnless bool      // it is the point of no return
	marked     bool      // and the flow has made it, so that the record is marked
	adopts     bool      // it moves the key to another version
	exhausted  bool      // the library moved the key to its last stage
	stateless  bool      // it leaves the state as it is
	byHand     bool      // its state is meant for all compensations
	effects    bool      // it has effects
	called     int64     // when the callback returned
	at         time.Time // the same as a clock time
	state      resultState
}

type resultState int

const (
	open resultState = iota
	committed
	fenced
	unknown
)

// holder is a callback that believes it has the lease. It does so until its context ends or it
// returns.
type holder struct {
	value string
	ctx   context.Context
}

func newHistory(w *world) *history {
	return &history{
		world: w, results: make(map[place]*result), byValue: make(map[string]*result), holders: make(map[string][]holder),
		fences: make(map[string]int64), revoked: make(map[string]bool), removed: make(map[string]bool),
		origins: make(map[string]string), requeued: make(map[string]bool),
	}
}

func (c *history) tick() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ticks++
	return c.ticks
}

func (c *history) log(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.write(format, args...)
}

func (c *history) write(format string, args ...any) {
	c.lines = append(c.lines, fmt.Sprintf("%13.6fs ", time.Since(c.world.began).Seconds())+fmt.Sprintf(format, args...))
}

func (c *history) violation(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.violated(format, args...)
}

// violated is violation for callers that hold mu.
func (c *history) violated(format string, args ...any) {
	c.violations = append(c.violations, fmt.Sprintf(format, args...))
	c.write("VIOLATION: "+format, args...)
}

// hash returns a digest of all events and their times.
func (c *history) hash() uint64 {
	h := fnv.New64a()
	for _, line := range c.lines {
		_, _ = h.Write([]byte(line))
	}
	return h.Sum64()
}

// view converts a key that was read into the values that its journal names. The caller holds mu.
func (c *history) view(key *redisidem.Key) view {
	v := view{made: key.CreatedAt.UnixMicro()}
	var answer *result
	var values strings.Builder
	for _, r := range c.commits(key) {
		values.WriteString(r.value + ",")
		switch {
		case r.answers:
			answer = r
		case answer != nil && answer.interim:
			answer = nil
		}
	}
	v.values = values.String()
	got, want := "", ""
	if key.Response != nil {
		got = string(key.Response.Body)
	}
	if answer != nil {
		want = body(answer.value)
	}
	if got != want || int64(strings.Count(v.values, ",")) != key.Revision {
		c.violated("%s has revision %d, journal %s and response %s instead of %s", key.Value, key.Revision, v.values, got, want)
	}
	return v
}

// commits returns the results that a key's journal names, and those of the snoozes that it has left
// out: the last result knows what it extends. The caller holds mu.
func (c *history) commits(key *redisidem.Key) (all []*result) {
	if len(key.Journal) == 0 {
		return nil
	}
	entry := func(e redisidem.JournalEntry) *result { return c.results[placeOf(key, e)] }
	last := entry(key.Journal[len(key.Journal)-1])
	if last == nil {
		c.violated("the journal of %s ends with %+v, which no worker committed", key.Value, key.Journal[len(key.Journal)-1])
		return nil
	}
	for value := range strings.SplitSeq(last.before+last.value, ",") {
		all = append(all, c.byValue[value])
	}
	journal := key.Journal
	for i, r := range all {
		switch {
		case len(journal) > 0 && journal[0].Revision == int64(i):
			if entry(journal[0]) != r {
				c.violated("the journal of %s has entry %+v, which no worker committed", key.Value, journal[0])
			}
			journal = journal[1:]
		case r == nil || !r.snoozes || len(journal) == 0:
			c.violated("the journal of %s lacks revision %d", key.Value, i)
		default:
			if next := entry(journal[0]); next == nil || !next.snoozes {
				c.violated("the journal of %s lacks the snooze of revision %d, and %+v is no snooze", key.Value, i, journal[0])
			}
		}
	}
	return all
}

// correction creates the result that an operator wants to store. It returns nil if the same worker
// has already tried at this revision.
func (c *history) correction(j *job, key *redisidem.Key) *result {
	value := j.worker.value()
	last := next(key.RecoveryPoint) == redisidem.Finished
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := c.view(key)
	at := placeOf(key, redisidem.JournalEntry{Owner: fmt.Sprint("w", j.worker.number), Revision: key.Revision})
	if c.results[at] != nil {
		return nil
	}
	return &result{
		place: at, key: j.key, value: value, made: seen.made, before: seen.values, answers: last || j.random.IntN(3) == 0,
		returnless: c.world.plan.returnless && key.RecoveryPoint == noReturn, byHand: true,
	}
}

func body(value string) string { return `"` + value + `"` }

// reads records that a key was read. asked is the tick of the request.
func (c *history) reads(worker int, asked int64, key *redisidem.Key) view {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.view(key)
	c.ticks++
	c.operations = append(c.operations, porcupine.Operation{
		ClientId: worker, Input: question{key: key.Value, verb: read, view: v}, Call: asked, Return: c.ticks,
	})
	c.write("worker %d sees %s: %d [%s] at %s", worker, key.Value, v.made, v.values, key.RecoveryPoint)
	return v
}

// begins records that a callback begins to work on a key. With attempt 0 it records that a worker
// has locked the key.
func (c *history) begins(ctx context.Context, value string, k *redisidem.Key, fence int64, attempt int, sameLease bool) {
	key := k.Value
	run, attempts := c.world.observer.begins(key, fence, k.Revision)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count.Callbacks++
	c.write("%s begins on %s with fence %d, attempt %d", value, key, fence, attempt)
	for _, b := range c.holders[key] {
		if b.ctx.Err() == nil && !c.revoked[key] {
			c.violated("%s begins on %s while %s believes that it has the lease", value, key, b.value)
		}
	}
	c.holders[key] = append(c.holders[key], holder{value, ctx})
	// A worker whose lease an operator took may not know it yet when the deadline of its flow ends
	// a stage. It then begins the callback that fails the flow, whose commit is refused.
	last := c.fences[key]
	late := fence < last && c.revoked[key]
	if fence < last && !late || fence == last && !sameLease {
		c.violated("%s has fence %d on %s after fence %d", value, fence, key, last)
	}
	c.fences[key] = max(fence, last)
	switch {
	case attempt == 0:
		return // it is not a callback
	case late: // and neither does it count
	case attempt != run || k.Attempts != attempts:
		c.violated("%s is attempt %d and %d in all on %s, instead of %d and %d", value, attempt, k.Attempts, key, run, attempts)
	}
	if ctx.Err() != nil {
		c.violated("%s begins on %s with a context that has ended: %v", value, key, context.Cause(ctx))
	}
}

// ends records that a callback has returned.
func (c *history) ends(value, key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.holders[key] = slices.DeleteFunc(c.holders[key], func(b holder) bool { return b.value == value })
	c.write("%s ends", value)
}

// wants records that a callback has a result to commit.
func (c *history) wants(r *result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ticks++
	r.called, r.at = c.ticks, time.Now()
	if before := c.results[r.place]; before != nil {
		c.violated("%s and %s are of the same lease and revision", before.value, r.value)
	}
	c.results[r.place], c.byValue[r.value] = r, r
}

// becomes records the final state of a result. Only an unknown result can change again.
func (c *history) becomes(r *result, state resultState) {
	taken := state != fenced || c.world.observer.claimedAfter(r.key, r.fence)
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.state == state && state != committed {
		return
	}
	if r.state != open && r.state != unknown {
		c.violated("%s was %v, and now it is %v", r.value, r.state, state)
		return
	}
	c.write("%s is %v", r.value, state)
	q := question{key: r.key, verb: commit, view: view{r.made, r.before}, value: r.value, certain: state == committed}
	op := porcupine.Operation{Input: q, Call: r.called}
	c.ticks++
	op.Return = c.ticks
	switch state {
	case committed:
		c.count.Committed++
		if r.state == unknown {
			c.count.Landed++
		}
		c.operations = append(c.operations, op)
	case fenced:
		c.count.Fenced++
		// A read that returns the value is a violation.
		if !taken {
			c.violated("%s is refused although no other worker has claimed %s", r.value, r.key)
		}
	case unknown:
		c.count.Unknown++
	case open: // no result changes to open
	}
	r.state = state
}

func (s resultState) String() string { return [...]string{"open", "committed", "fenced", "unknown"}[s] }

// Observe implements [redisidem.Observer]. It records acknowledged commits, including commits by
// completers and in the background.
func (w *worker) Observe(_ context.Context, e redisidem.Event) {
	c := w.world.history
	w.world.hangs.observe(e)
	revision := e.Revision
	if e.Kind == redisidem.EventCommitted {
		revision--
	}
	c.mu.Lock()
	r := c.results[place{e.Key, e.Fence, revision}]
	c.mu.Unlock()
	switch e.Kind {
	case redisidem.EventCommitted:
		if r == nil {
			c.violation("a commit was reported that no worker made: %+v", e)
			return
		}
		c.becomes(r, committed)
	case redisidem.EventOutcomeUnknown:
		if r != nil {
			if !w.network.struckSince(r.at) && !w.world.mayForget(r.key) {
				c.violation("the fault of %s is unknown although nothing has happened", r.value)
			}
			c.becomes(r, unknown)
		}
	case redisidem.EventLeaseLost:
		if r != nil && errors.Is(e.Err, redisidem.ErrFenced) {
			c.becomes(r, fenced)
		}
	default:
	}
}

// removes records that a key was deleted, or may have been deleted.
func (c *history) removes(worker int, asked int64, key *redisidem.Key, certain bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	op := porcupine.Operation{
		ClientId: worker, Input: question{key: key.Value, verb: remove, view: c.view(key), certain: certain}, Call: asked, Return: endless,
	}
	if certain {
		c.count.Removed++
		c.ticks++
		op.Return = c.ticks
	}
	c.operations = append(c.operations, op)
}

// completeOperations returns all operations, including operations whose outcome remains unknown.
func (c *history) completeOperations() []porcupine.Operation {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := slices.Clone(c.operations)
	for _, r := range c.byValue {
		if r.state == unknown || r.state == open {
			q := question{key: r.key, verb: commit, view: view{r.made, r.before}, value: r.value}
			all = append(all, porcupine.Operation{Input: q, Call: r.called, Return: endless})
		}
	}
	return all
}

func (c *history) tell(change func(*tally)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.count)
}

// absent records that a job found no record. The caller holds the history's mu.
func absent(j *job, now int64) porcupine.Operation {
	return porcupine.Operation{
		ClientId: j.worker.number, Input: question{key: j.key, verb: read}, Call: j.asked, Return: now,
	}
}
