package protocol

import "github.com/redisidem/redisidem/lua"

// NewDelete makes the call that deletes the record of a key of that flow, as name/version.
func (c *Client) NewDelete(id Identity, seen Seen, flow string) Call {
	call := newCall(lua.Delete, NewToken(), append(recordKeys(&id, ""), id.indexes(flow)...)...)
	revision, createdAt := seen.args()
	call.add(revision, createdAt, c.deletedArg, c.retentionArg)
	return call
}
