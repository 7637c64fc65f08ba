package protocol

import "github.com/redisidem/redisidem/lua"

// NewRequeue makes the call that takes a key out of the dead letters of the flow with that name.
func (c *Client) NewRequeue(id Identity, flow string) Call {
	return newCall(lua.Requeue, NewToken(), id.Record, id.Lock, id.DueIndex(flow), id.DeadLetters(flow))
}
