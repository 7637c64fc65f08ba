package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// tailCommand prints what happens, until it is interrupted.
type tailCommand struct {
	storeFlags
	Scope    given         `help:"Only keys of this scope. Acts are shown for all scopes."`
	Flow     given         `help:"Only keys of this flow: NAME or NAME/VERSION. Acts are shown for all flows."`
	Interval time.Duration `default:"2s" help:"How often Redis is asked; 100ms at least."`
	Pace     int           `default:"1000" help:"How many records are looked at in each second. A record costs Redis about 10 µs."`
}

// Help says what the command can see.
func (c *tailCommand) Help() string {
	return `It prints each act of an operator, and each change of the number of dead letters of a flow, within an interval.

It prints each key that was abandoned or interrupted, or that has become a dead letter, and each that is no longer so.
These are found by looking at all records again and again: it takes the number of records, divided by --pace, in
seconds. Keys that were in such a state before are only counted, once all have been looked at.

Acts, and keys that are found in such a state, have times of Redis. Keys that are no longer so (not-abandoned,
not-interrupted, not-dead) and numbers of dead letters have those of this machine, at which they were noticed.

Workers do nothing for it, so it cannot show work that succeeds, nor states that begin and end between two looks.
It changes nothing in Redis.`
}

const minInterval = 100 * time.Millisecond

// Run prints events until ctx ends, which is no error.
func (c *tailCommand) Run(ctx context.Context) error {
	switch {
	case c.Interval < minInterval:
		return usage("--interval %v must be at least %v", c.Interval, minInterval)
	case c.Pace < 1:
		return usage("--pace %d must be at least 1", c.Pace)
	}
	return c.inspect(ctx, 0, func(in *redisidem.Inspector) error {
		rows := newRows(c.Output, "WHEN EVENT ID DETAIL")
		copy(rows.widths, []int{len("2006-01-02 15:04:05.000"), len("not-interrupted"), 32}) // of rows to come
		look := newLook(in, redisidem.Filter{
			Scope: string(c.Scope), Flow: string(c.Flow),
			States: []redisidem.KeyState{redisidem.KeyAbandoned, redisidem.KeyInterrupted, redisidem.KeyDead},
		})
		defer look.close()
		tick := time.NewTicker(c.Interval)
		defer tick.Stop()
		away := false
		for {
			events, err := look.next(ctx, max(1, int(float64(c.Pace)*c.Interval.Seconds())))
			for i := range events {
				e := &events[i]
				rows.addLong(e, 54, e.detail(), clock(e.At), e.Event, cut(e.ID, 32))
			}
			if failed := rows.flush(); failed != nil {
				return failed
			}
			switch {
			case ctx.Err() != nil:
				return nil
			case look.begun && errors.Is(err, redisidem.ErrUnavailable):
				if !away {
					fmt.Fprintln(os.Stderr, strings.ReplaceAll(message(err), "\n", ": ")+"; it is asked again")
				}
			case err != nil:
				return err
			}
			away = err != nil
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
		}
	})
}

// tailEvent is something that happened.
type tailEvent struct {
	At    time.Time `json:"at"`
	Event string    `json:"event"`
	ID    string    `json:"id,omitempty"`
	Scope string    `json:"scope,omitempty"`
	Key   string    `json:"key,omitempty"`
	Flow  string    `json:"flow,omitempty"`
	Actor string    `json:"actor,omitempty"`
	Text  string    `json:"text,omitempty"`
}

// detail returns what a table has beside time, event and ID.
func (e *tailEvent) detail() string {
	subject := shown(e.Flow)
	switch {
	case e.Actor != "":
		subject = shown(e.Actor)
	case e.Key != "":
		subject = cut(e.Key, 20) + " of " + cut(e.Scope, 16)
	}
	return strings.TrimSuffix(subject+": "+shown(e.Text), ": ")
}

// look is what tail has seen so far.
type look struct {
	in     *redisidem.Inspector
	filter redisidem.Filter
	cursor string
	passes int // over all records, that are complete
	begun  bool

	// pages continues the list behind cursor, and stop ends it. Both are nil between two lists. A
	// list lasts for many intervals, so that the pages that it reads ahead are used in the next
	// one.
	pages func() (redisidem.Page, error, bool)
	stop  func()

	stuck, before map[string]tailEvent // by ID: the keys of this pass, and those of the one before
	acts          map[redisidem.AuditEntry]bool
	newest        time.Time       // of the acts
	damage        string          // why a part of the audit cannot be read, once it was said
	flows         map[string]bool // that have had dead letters
	dead          map[string]int64
}

// uncounted stands for the number of dead letters of a flow that a pass has met.
const uncounted = -1

// overlap is how much of the audit is read again, since the clocks of servers differ.
const overlap = 5 * time.Second

func newLook(in *redisidem.Inspector, f redisidem.Filter) *look {
	return &look{
		in: in, filter: f, stuck: make(map[string]tailEvent), before: make(map[string]tailEvent),
		acts: make(map[redisidem.AuditEntry]bool), flows: make(map[string]bool), dead: make(map[string]int64),
	}
}

// close ends the list.
func (l *look) close() {
	if l.stop != nil {
		l.stop()
		l.pages, l.stop = nil, nil
	}
}

// next returns what has happened since the last call. It looks at about so many records. ctx must
// last until close.
func (l *look) next(ctx context.Context, records int) (events []tailEvent, err error) {
	acts, err := l.nextActs(ctx)
	if err != nil {
		return nil, err
	}
	letters, err := l.nextDead(ctx)
	if err != nil {
		return acts, err
	}
	l.begun = true
	keys, err := l.nextKeys(ctx, records)
	return append(append(acts, letters...), keys...), err
}

// nextActs returns the acts since the last call.
func (l *look) nextActs(ctx context.Context) (events []tailEvent, err error) {
	var from time.Time // all: the clock of this machine may differ from that of Redis
	if !l.newest.IsZero() {
		from = l.newest.Add(-overlap)
	}
	entries, err := l.in.Audit(ctx, from, time.Time{})
	switch {
	case errors.Is(err, redisidem.ErrDamaged):
		if text := message(err); text != l.damage {
			l.damage = text
			fmt.Fprintln(os.Stderr, text)
		}
	case err != nil:
		return nil, err
	}
	seen := make(map[redisidem.AuditEntry]bool, len(entries))
	for _, e := range entries {
		seen[e] = true
		if e.At.After(l.newest) {
			l.newest = e.At
		}
		if l.begun && !l.acts[e] {
			what := e.Act
			if e.Outcome != "done" {
				what += ": " + e.Outcome
			}
			events = append(events, tailEvent{At: e.At, Event: "act", ID: e.KeyID, Actor: e.Actor, Text: what + ", " + e.Reason})
		}
	}
	l.acts = seen
	return events, nil
}

// nextDead returns the changes of the numbers of dead letters. Those of a flow that the first pass
// meets are no change.
func (l *look) nextDead(ctx context.Context) (events []tailEvent, err error) {
	indexes, err := l.in.FlowIndexes(ctx, slices.Sorted(maps.Keys(l.flows))...)
	if err != nil {
		return nil, err
	}
	dead := make(map[string]int64)
	for _, i := range indexes {
		dead[i.Name] = i.Dead
		l.flows[i.Name] = l.flows[i.Name] || i.Dead > 0
	}
	for name, n := range dead {
		was, known := l.dead[name]
		if n != was && was != uncounted && (known || l.passes > 0) {
			events = append(events, tailEvent{At: time.Now(), Event: "dead-letters", Flow: name, Text: fmt.Sprintf("%d, before %d", n, was)})
		}
	}
	l.dead = dead
	return events, nil
}

// nextKeys looks at more records.
func (l *look) nextKeys(ctx context.Context, records int) (events []tailEvent, err error) {
	if l.pages == nil {
		l.pages, l.stop = iter.Pull2(l.in.List(ctx, l.filter, l.cursor))
	}
	for records > 0 {
		page, err, _ := l.pages()
		if err != nil {
			l.close()
		}
		if l.cursor != "" && errors.Is(err, redisidem.ErrInvalid) { // the masters of the cluster are others now
			l.cursor, l.stuck = "", make(map[string]tailEvent)
			return events, nil
		}
		if err != nil {
			return events, err
		}
		for _, k := range page.Keys {
			e := stuckEvent(k)
			was, known := l.before[k.ID]
			if _, again := l.stuck[k.ID]; !again && l.passes > 0 && (!known || was.Event != e.Event || !was.At.Equal(e.At)) {
				events = append(events, e)
			}
			l.stuck[k.ID] = e
			if k.State == redisidem.KeyDead {
				name, _, _ := strings.Cut(k.Flow, "/")
				if !l.flows[name] {
					l.flows[name], l.dead[name] = true, uncounted
				}
			}
		}
		l.cursor = page.Next
		if l.cursor == "" {
			l.close()
			return append(events, l.endPass()...), nil
		}
		records -= page.Records
	}
	return events, nil
}

// endPass returns the keys that are no longer stuck. After the first pass it says how many are.
func (l *look) endPass() (events []tailEvent) {
	if l.passes == 0 {
		fmt.Fprintf(os.Stderr, "all records were looked at: %s abandoned, interrupted or dead\n", count(len(l.stuck), "key"))
	}
	for id := range l.before {
		if _, still := l.stuck[id]; !still {
			e := l.before[id]
			e.At, e.Event, e.Text = time.Now(), "not-"+e.Event, ""
			events = append(events, e)
		}
	}
	l.passes++
	l.before, l.stuck = l.stuck, make(map[string]tailEvent)
	return events
}

// stuckEvent says since when a key is stuck, and why. The time of an abandoned key is when its
// lease was granted.
func stuckEvent(k *redisidem.KeyInfo) tailEvent {
	e := tailEvent{At: k.LockedAt, Event: k.State.String(), ID: k.ID, Scope: k.Scope, Key: k.Value, Flow: k.Flow}
	if f := k.LastFailure; f != nil && k.State != redisidem.KeyAbandoned {
		e.At, e.Text = f.At, message(errors.New(f.Text))
		if f.Err != nil {
			e.Text = "its last failure cannot be read: " + reasonOf(f.Err)
		}
	}
	switch {
	case k.DeadLetter != nil:
		e.At = k.DeadLetter.At
		e.Text = strings.TrimSuffix(k.DeadLetter.Reason+"; "+e.Text, "; ")
	case k.State == redisidem.KeyAbandoned:
		e.Text = "its worker was " + k.LockedBy
	}
	if e.At.IsZero() {
		e.At = k.CreatedAt // an interrupted key whose failures are not stored
	}
	return e
}
