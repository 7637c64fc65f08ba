package protocol

import "github.com/redisidem/redisidem/lua"

// Update writes an outcome into a record without a lease.
type Update struct {
	ID      Identity
	Token   string
	Seen    Seen
	Flow    string // the key's flow as the caller knows it, as name/version; "" without one
	Outcome Outcome
}

// NewUpdate makes the call that updates a record.
func (c *Client) NewUpdate(u *Update) Call {
	keys := append(recordKeys(&u.ID, ""), u.ID.indexes(u.Flow)...)
	call := newCall(lua.Update, u.Token, keys...)
	call.durable = true
	revision, createdAt := u.Seen.args()
	call.add(revision, createdAt, c.retentionArg, c.ownerArg, c.flags)
	u.Outcome.add(&call)
	return call
}
