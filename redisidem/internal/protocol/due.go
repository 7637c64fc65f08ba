package protocol

import (
	"strings"
	"time"

	"github.com/redisidem/redisidem/lua"
)

// Due asks for keys that are due.
type Due struct {
	Index string // the Redis key of the due index
	Batch int    // the number of keys at most
	// PutOff is how long the keys are hidden from other completers.
	PutOff time.Duration
	// Until is the time up to which the index was read before in the same scan; "" at first.
	Until string
	// Share is how many keys of one scope at most. Without are the scopes that get none, as
	// [ScopePart].
	Share   int
	Without []string
}

// NewDue makes the call that hands out keys that are due.
func (c *Client) NewDue(d Due) Call {
	call := newCall(lua.Due, NewToken(), d.Index)
	call.add(d.Batch, d.PutOff.Milliseconds(), c.lifetimeArg, d.Until, d.Share, strings.Join(d.Without, ""))
	return call
}
