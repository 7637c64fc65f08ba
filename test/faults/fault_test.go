//go:build unix

package faults

import (
	"context"
	"sync"

	"github.com/redisidem/redisidem/internal/redistest"
)

// fault is a disturbance that strikes an operation once.
type fault struct {
	name string
	// strike arms the fault for the next call of the cell's script. It returns a channel that is
	// closed once the fault has struck, and a function that ends the fault. The channel is closed
	// by the time the operation is over.
	strike func(c *cell) (met <-chan struct{}, end func())
}

const lateDelivery = "late delivery"

// faults are the columns of the matrix.
var faults = []fault{
	{"request lost", onTheWire(redistest.LoseRequest)},
	{"reply lost, connection closed", onTheWire(redistest.LoseReply)},
	{"reply lost, timeout", onTheWire(redistest.MuteReply)},
	{lateDelivery, onTheWire(redistest.HoldRequest)},
	{"duplicate", onTheWire(redistest.Duplicate)},
	{"LOADING", passing(loading)},
	{"BUSY", passing(busy)},
	{"READONLY", passing(readOnly)},
	{"OOM", lasting(oom)},
	{"NOSCRIPT", forgetScripts},
	{"context cancelled", cancelCaller},
}

func nothing() {}

func onTheWire(f redistest.Fault) func(*cell) (<-chan struct{}, func()) {
	return func(c *cell) (<-chan struct{}, func()) { return c.proxy.Once(f, c.operation.script.SHA), nothing }
}

// lasting returns a fault that brings the server into a state that outlasts the operation.
func lasting(r refusal) func(*cell) (<-chan struct{}, func()) {
	return func(c *cell) (<-chan struct{}, func()) {
		met := c.errorWatcher.expect(string(r))
		return met, sync.OnceFunc(c.backend.begin(c.t, r))
	}
}

// passing returns a fault that brings the server into a state that ends as soon as the operation
// has met it.
func passing(r refusal) func(*cell) (<-chan struct{}, func()) {
	return func(c *cell) (<-chan struct{}, func()) {
		met, end := lasting(r)(c)
		over := make(chan struct{})
		c.running.Go(func() {
			select {
			case <-met:
			case <-over:
			}
			end()
		})
		return met, sync.OnceFunc(func() { close(over) })
	}
}

func forgetScripts(c *cell) (met <-chan struct{}, end func()) {
	met = c.errorWatcher.expect("NOSCRIPT")
	must(c.t, c.raw.ScriptFlush(context.Background()).Err())
	return met, nothing
}

// cancelCaller cancels the caller's context while the caller waits for a reply that never arrives.
func cancelCaller(c *cell) (met <-chan struct{}, end func()) {
	met, _ = onTheWire(redistest.MuteReply)(c)
	over := make(chan struct{})
	c.running.Go(func() {
		select {
		case <-met:
			c.cancel()
		case <-over:
		}
	})
	return met, sync.OnceFunc(func() { close(over) })
}
