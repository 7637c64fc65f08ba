package protocol

import "github.com/redisidem/redisidem/lua"

// NewUnlock makes the call that takes the lease on a key away from its worker.
func (c *Client) NewUnlock(id Identity) Call {
	return newCall(lua.Unlock, NewToken(), id.Record, id.Lock)
}
