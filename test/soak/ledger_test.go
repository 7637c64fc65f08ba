//go:build unix

package soak

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/redisidem/redisidem/test/internal/history"
)

// ledger is a recorder in this process that records violations as they happen.
type ledger struct {
	mu       sync.Mutex
	recorder *history.Recorder
	before   history.Count                         // of earlier recorders
	inside   map[string]map[string]context.Context // the contexts of running callbacks, by key and token
	wrong    []history.Violation
}

func newLedger() *ledger {
	return &ledger{recorder: history.NewRecorder(), inside: make(map[string]map[string]context.Context)}
}

func (l *ledger) tell(e history.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.recorder.Add(e)
}

// report records violations, with all known events of the key.
func (l *ledger) report(found ...history.Violation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, v := range found {
		for _, e := range l.recorder.Events(v.Key) {
			v.Text += "\n\t" + e.String()
		}
		l.wrong = append(l.wrong, v)
	}
}

// enter records that a callback runs until the returned function is called. Another callback of the
// same key must have been cancelled. The system may need a moment to run the goroutine that cancels
// it.
func (l *ledger) enter(ctx context.Context, e history.Event) (leave func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for token, other := range l.inside[e.Key] {
		if other.Err() == nil {
			l.lookAgain(other, token, e)
		}
	}
	if l.inside[e.Key] == nil {
		l.inside[e.Key] = make(map[string]context.Context)
	}
	l.inside[e.Key][e.Token] = ctx
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.inside[e.Key], e.Token)
		if len(l.inside[e.Key]) == 0 {
			delete(l.inside, e.Key)
		}
	}
}

// lookAgain later checks a callback beside which another one began. A late timer means that the
// machine was too busy to run the goroutine that cancels.
func (l *ledger) lookAgain(other context.Context, token string, e history.Event) {
	due := time.Now().Add(lease / 2)
	time.AfterFunc(lease/2, func() {
		if time.Since(due) > lease/20 {
			l.lookAgain(other, token, e)
			return
		}
		l.mustBeOver(other, token, e)
	})
}

// mustBeOver checks that the callback beside which another one began has ended or was cancelled
// meanwhile.
func (l *ledger) mustBeOver(other context.Context, token string, e history.Event) {
	l.mu.Lock()
	_, runs := l.inside[e.Key][token]
	l.mu.Unlock()
	if runs && other.Err() == nil {
		l.report(history.Violation{Rule: history.Overlap, Key: e.Key, Text: fmt.Sprintf("%s beside %s", e, token)})
	}
}

// check compares the events of a key with its record.
func (l *ledger) check(r history.Record) {
	l.mu.Lock()
	found := l.recorder.Check(r)
	l.mu.Unlock()
	l.report(found...)
}

// some returns up to most keys with events.
func (l *ledger) some(most int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.recorder.Some(most)
}

// turn begins a new recorder.
func (l *ledger) turn() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.before = l.before.Plus(l.recorder.Count())
	l.recorder = history.NewRecorder()
}

func (l *ledger) count() history.Count {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.before.Plus(l.recorder.Count())
}
