package protocol

import (
	"time"

	"github.com/redisidem/redisidem/lua"
)

// NewReindex makes the call that enters a key into an index that has lost it. A key that is no dead
// letter becomes due after a time.
func (c *Client) NewReindex(id Identity, index string, after time.Duration) Call {
	call := newCall(lua.Reindex, NewToken(), id.Record, index)
	call.add(after.Milliseconds())
	return call
}
