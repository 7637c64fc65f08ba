package protocol

import "github.com/redisidem/redisidem/lua"

// NewCancel makes the call that cancels a key of that flow, as name/version. Without a flow the
// reply has it. Of the record that the caller has seen, only its creation is compared.
func (c *Client) NewCancel(id Identity, seen Seen, flow string) Call {
	call := newCall(lua.Cancel, NewToken(), append(recordKeys(&id, ""), id.indexes(flow)...)...)
	_, createdAt := seen.args()
	call.add(createdAt)
	return call
}
