package protocol

import "github.com/redisidem/redisidem/lua"

// NewRequeue makes the call that takes a key out of the dead letters of the flow with that name.
// fence is the one that the caller has seen; "" for any.
func (c *Client) NewRequeue(id Identity, flow, fence string) Call {
	call := newCall(lua.Requeue, NewToken(), id.Record, id.Lock, id.DueIndex(flow), id.DeadLetters(flow))
	call.add(fence)
	return call
}
