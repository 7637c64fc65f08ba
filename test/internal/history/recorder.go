// Package history compares the results that workers received for idempotency keys with the stored
// state. Workers in any process report their actions and results as events. The package compares
// the events of each key with its record. The rules are the promise of package redisidem.
package history

import "slices"

// Recorder holds the events of some keys. It is not safe for concurrent use.
type Recorder struct {
	keys    map[string]*keyEvents
	inside  map[string]map[string]bool // by worker: the tokens of callbacks that have begun and not left
	stopped map[string]bool            // the tokens of callbacks that were running while their worker was stopped
	count   Count
}

// Count counts the events in a recorder.
type Count struct {
	// These count the runs of callbacks, the results of their callers, and the answers.
	Runs, Committed, Fenced, GaveUp, Unknown, Answers int
	// Stopped counts the callbacks that were running while their worker was stopped for longer than
	// a lease, and that reported again later. Cancelled counts the ones among them whose context
	// had ended by then.
	Stopped, Cancelled int
}

// Plus returns the sum.
func (c Count) Plus(d Count) Count {
	return Count{
		c.Runs + d.Runs, c.Committed + d.Committed, c.Fenced + d.Fenced, c.GaveUp + d.GaveUp, c.Unknown + d.Unknown,
		c.Answers + d.Answers, c.Stopped + d.Stopped, c.Cancelled + d.Cancelled,
	}
}

// keyEvents holds the events of a key.
type keyEvents struct {
	began   []Event
	results []Event       // Committed, Fenced, GaveUp
	byHand  []Event       // Resolving
	answers map[Chain]int // how often each was given
	wrong   []Violation   // violations that do not depend on the record
}

// NewRecorder creates an empty recorder.
func NewRecorder() *Recorder {
	return &Recorder{keys: make(map[string]*keyEvents), inside: make(map[string]map[string]bool), stopped: make(map[string]bool)}
}

// Count returns the number of events of each kind.
func (b *Recorder) Count() Count { return b.count }

// Keys returns the number of keys with events.
func (b *Recorder) Keys() int { return len(b.keys) }

// Some returns up to most keys with events, at random.
func (b *Recorder) Some(most int) (keys []string) {
	for key := range b.keys {
		if len(keys) == most {
			break
		}
		keys = append(keys, key)
	}
	return keys
}

// Events returns the events of a key except the answers: first the callbacks that began, then the
// results of callers.
func (b *Recorder) Events(key string) []Event {
	p := b.keyEvents(key)
	return slices.Concat(p.began, p.results)
}

// Forget drops the events of a key.
func (b *Recorder) Forget(key string) { delete(b.keys, key) }

func (b *Recorder) keyEvents(key string) *keyEvents {
	p := b.keys[key]
	if p == nil {
		p = &keyEvents{answers: make(map[Chain]int)}
		b.keys[key] = p
	}
	return p
}

// Add adds an event. The events of each worker must be added in order.
func (b *Recorder) Add(e Event) {
	if e.Kind == Stopped {
		for token := range b.inside[e.Worker] {
			b.stopped[token] = true
		}
		return
	}
	p := b.keyEvents(e.Key)
	switch e.Kind {
	case Began:
		b.count.Runs++
		p.began = append(p.began, e)
		if b.inside[e.Worker] == nil {
			b.inside[e.Worker] = make(map[string]bool)
		}
		b.inside[e.Worker][e.Token] = true
	case Left:
		b.leave(e)
	case Committed, Fenced, GaveUp, Unknown:
		b.leave(e)
		p.results = append(p.results, e)
		b.tally(e)
		if b.stopped[e.Token] {
			delete(b.stopped, e.Token)
			b.count.Stopped++
			if e.Lost {
				b.count.Cancelled++
			} else {
				p.wrong = append(p.wrong, violation(NotCancelled, e, "its worker stood still for longer than the lease"))
			}
		}
	case Resolving:
		p.byHand = append(p.byHand, e)
	case Answered:
		b.count.Answers++
		p.answers[Chain(e.Text)]++
	default:
		p.wrong = append(p.wrong, violation(BadError, e, "%s", e.Text))
	}
}

func (b *Recorder) leave(e Event) { delete(b.inside[e.Worker], e.Token) }

func (b *Recorder) tally(e Event) {
	switch e.Kind {
	case Committed:
		b.count.Committed++
	case Fenced:
		b.count.Fenced++
	case GaveUp:
		b.count.GaveUp++
	default:
		b.count.Unknown++
	}
}
