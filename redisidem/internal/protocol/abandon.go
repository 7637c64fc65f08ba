package protocol

import (
	"fmt"

	"github.com/redisidem/redisidem/lua"
)

// Ending describes how an attempt that ends without a result counts. The zero value counts in full.
type Ending struct {
	// NothingDone means that the attempt at the stage does not count.
	NothingDone bool
	// Unbegun means that no callback has begun, so the attempt at the key does not count.
	Unbegun bool
	// Stopped means that a shutdown stopped the attempt. It counts as begun, but not for
	// MaxAttempts.
	Stopped bool
	// Refused, with NothingDone, means that no program could work on the key or read it.
	Refused bool
	// Open means that the attempt was cut short, so that what it has called may still be at work.
	Open bool
	// Unsettled means that the record of a key with an attempt that counts lives as long as that of
	// a dead letter.
	Unsettled bool
}

// flags returns the ending as the abandon script takes it, without Unsettled.
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
	if e.Open {
		flags += flagOpen
	}
	return flags
}

// Abandon ends an attempt without a result.
type Abandon struct {
	ID       Identity
	Token    string
	Ending   Ending
	Recovery Recovery
	// Failure is which run of the stage failed, its owner and its error, as the script stores them;
	// empty for none. It takes effect only if the attempt still has the lease.
	Failure []byte
	// DeadLetter is the reason if the key becomes a dead letter of Recovery's flow; "" if it does
	// not. It takes effect only if the attempt still has the lease.
	DeadLetter string
}

// NewAbandon makes the call that abandons a lease.
func (c *Client) NewAbandon(a Abandon) Call {
	keys := recordKeys(&a.ID, a.Recovery.Flow)
	if a.DeadLetter != "" {
		keys = append(keys, a.ID.DeadLetters(a.Recovery.Flow))
	}
	call := newCall(lua.Abandon, a.Token, keys...)
	flags := a.Ending.flags()
	if a.Ending.Unsettled {
		flags += flagUnsettled + fmt.Sprint(c.deadLetterArg)
	}
	call.add(flags)
	if len(a.Failure) > 0 || a.Recovery.Flow != "" {
		call.add(a.Failure)
	}
	if a.Recovery.Flow != "" {
		call.add(a.Recovery.After.Milliseconds())
	}
	if a.DeadLetter != "" {
		call.add(a.DeadLetter, c.deadLetterArg)
	} else if a.Recovery.Flow != "" && a.Recovery.Left > 0 {
		call.add(a.Recovery.Left.Milliseconds())
	}
	return call
}
