package protocol

import "github.com/redisidem/redisidem/lua"

// Ending says how an attempt counts that ends without a result. The zero value counts in full.
type Ending struct {
	// NothingDone does not count the attempt at the stage.
	NothingDone bool
	// Unbegun says that no callback has begun: the attempt at the key does not count.
	Unbegun bool
	// Stopped says that a shutdown stopped the attempt: it was begun, and does not use one up.
	Stopped bool
	// Refused, with NothingDone, says that no program could work on the key or read it.
	Refused bool
}

// flags returns the ending as the abandon script takes it.
func (e Ending) flags() string {
	flags := ""
	if e.NothingDone {
		flags += flagIdle
	}
	if e.Unbegun {
		flags += flagUnbegun
	}
	if e.Stopped {
		flags += flagSpared
	}
	if e.Refused {
		flags += flagRefused
	}
	return flags
}

// Abandon ends an attempt without a result.
type Abandon struct {
	ID       Identity
	Token    string
	Ending   Ending
	Recovery Recovery
	// DeadLetter is why the key becomes a dead letter of Recovery's flow, if the attempt still has
	// the lease; "" if it does not become one.
	DeadLetter string
}

// NewAbandon makes the call that abandons a lease.
func (c *Client) NewAbandon(a Abandon) Call {
	keys := recordKeys(&a.ID, a.Recovery.Flow)
	if a.DeadLetter != "" {
		keys = append(keys, a.ID.DeadLetters(a.Recovery.Flow))
	}
	call := newCall(lua.Abandon, a.Token, 4, keys...)
	call.add(a.Ending.flags())
	if a.Recovery.Flow != "" {
		call.add(a.Recovery.After.Milliseconds())
	}
	if a.DeadLetter != "" {
		call.add(a.DeadLetter, c.lifetimeArg)
	}
	return call
}
