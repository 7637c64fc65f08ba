package protocol

import "github.com/redisidem/redisidem/lua"

// NewRecord describes a record to be created.
type NewRecord struct {
	Method, Path string
	Params       []byte // as they are stored; empty for none
}

// add adds a record's request and its params to a call.
func (r *NewRecord) add(c *Call, id *Identity) {
	c.addTexts(FormatRequest(id.Scope, id.Value, r.Method, r.Path))
	c.add(r.Params)
}

// NewCreate makes the call that returns a key's record, and creates it if it does not exist.
func (c *Client) NewCreate(id Identity, fingerprint string, r NewRecord, needsParams bool) Call {
	call := newCall(lua.Create, NewToken(), id.Record)
	call.durable = true
	flags := c.flags
	if needsParams {
		flags += flagParams
	}
	call.addTexts(fingerprint)
	call.add(c.retentionArg)
	r.add(&call, &id)
	if flags != "" {
		call.add(flags)
	}
	return call
}
