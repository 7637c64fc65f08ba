package protocol

import "github.com/redisidem/redisidem/lua"

// NewUnlock makes the call that takes the lease on a key away from its worker. fence is the one
// that the caller has seen; "" takes the lease of any worker.
func (c *Client) NewUnlock(id Identity, fence string) Call {
	call := newCall(lua.Unlock, NewToken(), id.Record, id.Lock)
	call.add(fence)
	return call
}
