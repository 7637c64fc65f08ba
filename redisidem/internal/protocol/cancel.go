package protocol

import "github.com/redisidem/redisidem/lua"

// NewCancel makes the call that cancels a key of that flow, as name/version. Without a flow the
// reply has it.
func (c *Client) NewCancel(id Identity, flow string) Call {
	return newCall(lua.Cancel, NewToken(), append(recordKeys(&id, ""), id.indexes(flow)...)...)
}
