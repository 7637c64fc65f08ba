package protocol

import (
	"time"

	"github.com/redisidem/redisidem/lua"
)

// Due asks for keys that are due.
type Due struct {
	Index string // the Redis key of the due index
	Batch int    // the number of keys at most
	// PutOff is for how long the keys are put off, so that no other completer gets them meanwhile.
	PutOff time.Duration
	// Until is up to when the index was read before in the same scan; "" at first.
	Until string
}

// NewDue makes the call that hands out keys that are due.
func (c *Client) NewDue(d Due) Call {
	call := newCall(lua.Due, NewToken(), 4, d.Index)
	call.add(d.Batch, d.PutOff.Milliseconds(), c.lifetimeArg, d.Until)
	return call
}
