package redisidem

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
)

// errGoexit reports that a stage or the observer ended its goroutine.
var errGoexit = errors.New("stage called runtime.Goexit")

// errNotOurs reports that a record belongs to a flow of another name, or to no flow.
var errNotOurs = errors.New("redisidem: key belongs to no flow of that name")

// panicError is a panic of a stage or of the observer.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.value, e.stack) }

// resume takes the lease on a key and runs its flow in the version that the key belongs to. For a
// finished key, the claim removes it from the due index.
func (c *Completer) resume(ctx context.Context, id identity, j *job, onHung func(bool)) (key *Key, err error) {
	// A panic of one key's stage or of the observer must not end the process that works on all
	// others.
	var lease *Lease
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{v, debug.Stack()}
		}
		if lease != nil {
			lease.span.end(err)
		}
	}()
	sc := c.service.Scope("").Wait(0) // the scope is in the record
	f := c.runnable(j.flow.cfg.Name)
	if f == nil {
		return nil, errPutOff
	}
	lease, key, err = sc.claim(ctx, claim{id: id, flow: f, completing: true, handedOut: j.handed, onHung: onHung})
	if other, ok := errors.AsType[*FlowError](err); ok {
		switch name, _, _ := strings.Cut(other.Stored, "/"); {
		case name != f.cfg.Name:
			return nil, errNotOurs
		case c.paused.has(name, other.Stored):
			return nil, errPutOff
		case c.flows[other.Stored] != nil:
			f = c.flows[other.Stored]
			lease, key, err = sc.claim(ctx, claim{id: id, flow: f, completing: true, handedOut: j.handed, onHung: onHung})
		}
	}
	if errors.Is(err, ErrOtherFlow) || errors.Is(err, ErrUnknownRecoveryPoint) {
		return nil, c.refuse(ctx, sc, claim{id: id, flow: j.flow, completing: true, handedOut: j.handed, unrunnable: true}, err)
	}
	if lease == nil {
		return key, err
	}
	ctx = lease.caller()
	switch why, err := c.deadLetterReason(ctx, lease); {
	case err != nil:
		return nil, errors.Join(err, lease.abandonUnbegun(ctx, err))
	case why != "":
		return nil, lease.makeDeadLetter(ctx, why)
	}
	key, err = c.run(ctx, lease, f)
	why := ""
	switch {
	case err == nil:
	case errors.Is(err, ErrNoProgress) && !ofStage(err):
		why = err.Error() // the flow would go round in circles the next time, too
	default:
		why = lease.failedFinally(ctx, err)
	}
	if why != "" {
		if now := c.flows[key.Flow]; now != nil {
			f = now // it was adopted in this run
		}
		again, _, claimErr := sc.claim(ctx, claim{id: id, flow: f, completing: true, onHung: onHung})
		if again == nil {
			return key, errors.Join(err, claimErr)
		}
		if again.Key().Revision != key.Revision { // another worker came between, and the key has advanced
			return key, errors.Join(err, again.abandonUnbegun(again.caller(), err))
		}
		err = again.makeDeadLetter(again.caller(), why)
		again.span.end(err)
		return key, err
	}
	return key, err
}

// run runs the flow of a key. It returns a panic, and the end of the goroutine, as an error.
func (c *Completer) run(ctx context.Context, lease *Lease, f *Flow) (key *Key, err error) {
	err = errGoexit
	var wg sync.WaitGroup
	wg.Go(func() {
		defer func() {
			if v := recover(); v != nil {
				err = &panicError{v, debug.Stack()}
			}
		}()
		key, err = lease.runFlow(ctx, c.given[f.id], func(f *Flow) bool { return c.paused.has(f.cfg.Name, f.id) })
	})
	wg.Wait()
	if key == nil {
		key = lease.Key()
	}
	return key, err
}
