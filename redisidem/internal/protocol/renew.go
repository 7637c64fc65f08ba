package protocol

import "github.com/redisidem/redisidem/lua"

// Renew gives a lease its full length again.
type Renew struct {
	ID       Identity
	Token    string
	Fence    int64
	Recovery Recovery
	// DeadLetterOf is the flow, as name/version, if the key is one of its dead letters.
	DeadLetterOf string
}

// NewRenew makes the call that renews a lease.
func (c *Client) NewRenew(r Renew) Call {
	keys := recordKeys(&r.ID, r.Recovery.Flow)
	if r.DeadLetterOf != "" {
		keys = append(keys, r.ID.indexes(r.DeadLetterOf)...)
	}
	call := newCall(lua.Renew, r.Token, keys...)
	call.addNumber(r.Fence)
	call.add(c.leaseArg, c.retentionArg)
	if r.Recovery.Flow != "" {
		call.add(r.Recovery.After.Milliseconds())
		if r.Recovery.Left > 0 {
			call.add(r.Recovery.Left.Milliseconds())
		}
	}
	return call
}
