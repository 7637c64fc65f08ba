package protocol

import "github.com/redisidem/redisidem/lua"

// NewRecord describes a record to be created.
type NewRecord struct {
	Method, Path string
	Params       []byte // as they are stored
	HasParams    bool
	Flow         string // name/version; "" if none works on the key
}

// add adds the parts of a record to a call. The parts that each record has come first, without
// field names. The others follow as field, value, ...
func (r *NewRecord) add(c *Call, id *Identity) {
	c.addTexts(id.Scope, id.Value, r.Method, r.Path)
	if r.HasParams {
		c.add("request_params", r.Params)
	}
	if r.Flow != "" {
		c.add("flow")
		c.addTexts(r.Flow)
	}
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
	call.add(c.retentionArg, flags)
	r.add(&call, &id)
	return call
}
